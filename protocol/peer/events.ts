import type { CodecName } from '../codec/codec.ts'
import type { BusyReason, Card, Digest, Message, Nonce, Outcome, PeerId } from '../message.ts'
import type { Path, Report } from '../report.ts'

/**
 * What a Peer hears and what it wants done. Time is milliseconds of the host's own monotonic clock; nonces and
 * digests are hex. Copies themselves never come here: the host keeps them under their swap's nonce.
 */
export type PeerEvent =
  /** The network is up and subscribed; sent once, first. */
  | { type: 'joined' }
  /** `livesMs` is what is left of its life, CARD_LIFETIME_MS where nobody says. */
  | { type: 'card'; card: Card; livesMs?: number }
  /** A direct connection to a peer of this swarm opened or closed; `reachable` counts bootstraps and the like. */
  | { type: 'linked'; peer: PeerId; path: Path }
  | { type: 'unlinked'; peer: PeerId }
  /** A dial came to nothing: nobody waits for this peer. */
  | { type: 'unreached'; peer: PeerId }
  | { type: 'reachable'; count: number }
  /** Somebody who knows peers has told us the cards of this swarm; they were sent before this. */
  | { type: 'introduced' }
  /** Messages of a swap, as they came. `codec` is known to us and tensors are ours: the host's gate saw to that. */
  | { type: 'offered'; from: PeerId; nonce: Nonce; codec: CodecName; steps: number }
  | { type: 'accepted'; from: PeerId; nonce: Nonce; steps: number }
  | { type: 'declined'; from: PeerId; nonce: Nonce; reason: BusyReason }
  | { type: 'ready'; from: PeerId; nonce: Nonce; digest: Digest }
  | { type: 'committed'; from: PeerId; nonce: Nonce; digest: Digest }
  | { type: 'asked'; from: PeerId; nonce: Nonce }
  | { type: 'told'; from: PeerId; nonce: Nonce; outcome: Outcome }
  | { type: 'pull-asked'; from: PeerId; nonce: Nonce; what: 'state' | 'copy'; codec: CodecName }
  | { type: 'granted'; from: PeerId; nonce: Nonce; steps: number }
  /** Their copy is here whole and passed the gate. */
  | { type: 'received'; nonce: Nonce; digest: Digest; bytes: number }
  /** The stream of a swap or pull broke, or what came was rejected. */
  | { type: 'broken'; nonce: Nonce; reason: string }
  /** Answers of the worker. */
  | { type: 'gave'; nonce: Nonce; digest: Digest; bytes: number; steps: number }
  | { type: 'settled'; nonce: Nonce; distance: number }
  | { type: 'adopted'; nonce: Nonce; steps: number }
  | {
      type: 'trained'
      steps: number
      totalSteps: number
      loss: number
      samples: number
      ms: number
    }
  /** The time that a `timer` effect asked for has come. */
  | { type: 'tick' }
  /** What a person may ask: pause, go on, stop training but let the swarm agree, leave now. */
  | { type: 'pause' }
  | { type: 'resume' }
  /** Whether copies may travel: while not, it trains alone, and a swap under way is finished. */
  | { type: 'swapping'; allowed: boolean }
  | { type: 'finish' }
  | { type: 'leave'; reason: string }

export type PeerEffect =
  /** Say this to `to` on the stream of its nonce; offer, ask and pull open a stream. A `params` message takes the copy given under its nonce along. */
  | { type: 'send'; to: PeerId; message: Draft }
  /** Worker: run so many steps; encode a copy; move by what came; take over another's state. */
  | { type: 'train'; steps: number }
  | { type: 'give'; nonce: Nonce; what: 'copy' | 'state'; codec: CodecName }
  | { type: 'settle'; nonce: Nonce; role: SettleRole; codec: CodecName; received: Nonce[] }
  | { type: 'adopt'; nonce: Nonce; steps: number }
  | { type: 'evaluate'; at: 'trained' | 'averaged'; round: number }
  /** Close the stream of this nonce; `release` also forgets its copies. */
  | { type: 'close'; nonce: Nonce }
  | { type: 'release'; nonce: Nonce }
  /** Open a direct connection, or let one go. */
  | { type: 'dial'; peer: PeerId }
  | { type: 'hang-up'; peer: PeerId }
  /** Sign and gossip our card, which expires in `livesMs`. */
  | { type: 'publish'; card: CardState; livesMs: number }
  /** Send `tick` at this time; a later timer effect replaces an earlier one. */
  | { type: 'timer'; at: number }
  | { type: 'report'; report: Report }
  /** The run is over: checkpoint, say goodbye, close. */
  | { type: 'stop'; reason: string }

export type SettleRole = 'offerer' | 'accepter' | 'puller'

/** What the state machine knows of its card; the host adds addresses, codecs, sequence and expiry. */
export type CardState = Pick<Card, 'phase' | 'round' | 'steps' | 'load'>

/** A message without what only the host knows (which swarm, which tensors). */
type Without<M, K extends PropertyKey> = M extends unknown ? Omit<M, K> : never
export type Draft = Without<Message, 'genesis' | 'tensors'>
