import { describe, expect, test } from 'vitest'
import type { PeerEffect } from '../../../protocol/peer.ts'
import {
  type Bench,
  cardOf,
  digestOf,
  nonceOf,
  only,
  sent,
  trainingPeer,
} from '../../support/peer.ts'

const COPY_BYTES = 1000
/** Before anything was measured: 5 s to answer, and 1 MB/s both ways. */
const FIRST_DEADLINE_MS = 5002
const OURS = digestOf('ours')
const THEIRS = digestOf('theirs')

/** We offered to `a`; answers with the nonce. */
function offering(bench: Bench): string {
  return sent(bench.endRound(), 'offer')[0]!.nonce
}

/** We offered, `a` accepted, our copy is encoded and on its way. */
function exchanging(bench: Bench): string {
  const nonce = offering(bench)
  bench.tell({ type: 'accepted', from: 'a', nonce, steps: 10 })
  bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 10 })
  return nonce
}

/** `from` offered, we accepted, gave and got a copy, and said READY. */
function ready(bench: Bench, name = 'one', from = 'a'): string {
  const nonce = nonceOf(name)
  bench.tell({ type: 'offered', from, nonce, codec: 'int8', steps: 10 })
  bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 10 })
  bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
  return nonce
}

/** We said READY and lost the stream. */
function inDoubt(bench: Bench, name = 'one', from = 'a'): string {
  const nonce = ready(bench, name, from)
  bench.tell({ type: 'broken', nonce, reason: 'the stream was lost' })
  return nonce
}

/** A peer whose budget allows to accept. */
function accepter(neighbours = ['a']): Bench {
  const bench = trainingPeer({ swapsPerRound: 8 }, neighbours)
  bench.tell({ type: 'pause' })
  bench.endRound()
  bench.tell({ type: 'resume' })
  return bench
}

function types(effects: readonly PeerEffect[]): string[] {
  return effects.map((effect) => (effect.type === 'send' ? effect.message.type : effect.type))
}

describe('the offerer', () => {
  test('offers to a live neighbour when a round ends, and gives nothing before ACCEPT', () => {
    const effects = trainingPeer().endRound()
    expect(sent(effects, 'offer')).toMatchObject([{ to: 'a', codec: 'int8', steps: 20 }])
    expect(only(effects, 'give')).toEqual([])
  })

  const codecs = ['float32', 'int8']

  test('offers int8 to who cannot read its codec, as the card says, and settles what it offered', () => {
    const bench = trainingPeer({ codec: 'float32' }, [])
    bench.meet('a', { codecs: ['int8'] })
    const [offer] = sent(bench.endRound(), 'offer')
    expect(offer).toMatchObject({ to: 'a', codec: 'int8' })
    const { nonce } = offer!
    const accepted = bench.tell({ type: 'accepted', from: 'a', nonce, steps: 10 })
    expect(only(accepted, 'give')).toMatchObject([{ codec: 'int8' }])
    bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 10 })
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    const decided = bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
    expect(only(decided, 'settle')).toMatchObject([{ role: 'offerer', codec: 'int8' }])
  })

  test('offers int8 for good to who answered that it cannot read its codec, and to nobody else', () => {
    const bench = trainingPeer({ codec: 'float32' }, [])
    bench.meet('a', { codecs })
    const [first] = sent(bench.endRound(), 'offer')
    expect(first).toMatchObject({ to: 'a', codec: 'float32' })
    const refused = { from: 'a', nonce: first!.nonce, reason: 'unknown-codec' } as const
    bench.tell({ type: 'declined', ...refused })
    // Its card says that it can, again: it answered otherwise.
    bench.meet('a', { codecs, sequence: 2 })
    for (const round of [0, 1]) {
      const [offer] = sent(bench.endRound(), 'offer')
      expect(offer, `${round}`).toMatchObject({ to: 'a', codec: 'int8' })
      bench.tell({ type: 'broken', nonce: offer!.nonce, reason: 'lost' })
      bench.wait(90_000)
    }
    bench.tell({ type: 'unlinked', peer: 'a' })
    bench.meet('b', { codecs })
    expect(sent(bench.endRound(), 'offer')).toMatchObject([{ to: 'b', codec: 'float32' }])
  })

  test.each(['busy', 'budget', 'other-tensors'] as const)('keeps its codec after %s', (reason) => {
    const bench = trainingPeer({ codec: 'float32' }, [])
    bench.meet('a', { codecs: [] })
    const [{ nonce } = { nonce: '' }] = sent(bench.endRound(), 'offer')
    bench.tell({ type: 'declined', from: 'a', nonce, reason })
    expect(sent(bench.endRound(), 'offer')).toMatchObject([{ to: 'a', codec: 'float32' }])
  })

  test('says PARAMS with the digest of its copy once the worker gave it', () => {
    const bench = trainingPeer()
    const nonce = offering(bench)
    const accepted = bench.tell({ type: 'accepted', from: 'a', nonce, steps: 10 })
    expect(only(accepted, 'give')).toEqual([{ type: 'give', nonce, what: 'copy', codec: 'int8' }])
    const gave = bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 10 })
    expect(sent(gave, 'params')).toMatchObject([{ to: 'a', bytes: COPY_BYTES, digest: OURS }])
  })

  test('settles when it has both copies and READY, in whatever order they come', () => {
    for (const order of [
      ['received', 'ready'],
      ['ready', 'received'],
    ]) {
      const bench = trainingPeer()
      const nonce = exchanging(bench)
      const effects = order.map((type) =>
        type === 'ready'
          ? bench.tell({ type, from: 'a', nonce, digest: OURS })
          : bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES }),
      )
      expect(only(effects[0]!, 'settle')).toEqual([])
      const settle = { type: 'settle', nonce, role: 'offerer', codec: 'int8', received: [nonce] }
      expect(only(effects[1]!, 'settle')).toEqual([settle])
    }
  })

  test('commits only after its own params have moved', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    const decided = bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
    expect(sent(decided, 'commit')).toEqual([])
    expect(bench.peer.view.isSwapping).toBe(true)
    const settled = bench.tell({ type: 'settled', nonce, distance: 2 })
    expect(sent(settled, 'commit')).toMatchObject([{ to: 'a', nonce, digest: THEIRS }])
    expect(types(settled).slice(0, 3)).toEqual(['commit', 'close', 'release'])
    const traffic = { bytesUp: COPY_BYTES, bytesDown: COPY_BYTES }
    expect(bench.peer.view).toMatchObject({ swaps: 1, isSwapping: false, ...traffic })
  })

  test('drops a swap whose READY names another copy than ours', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    const effects = bench.tell({ type: 'ready', from: 'a', nonce, digest: digestOf('other') })
    expect(only(effects, 'settle')).toEqual([])
    expect(only(effects, 'release')).toEqual([{ type: 'release', nonce }])
    expect(bench.peer.view.failedSwaps).toBe(1)
  })

  test('ignores what comes after the deadline by its own clock', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    const late = { type: 'ready', from: 'a', nonce, digest: OURS } as const
    expect(only(bench.tell(late, FIRST_DEADLINE_MS + 1), 'settle')).toEqual([])
    expect(bench.peer.view.failedSwaps).toBe(1)
  })

  test('still decides at the last millisecond', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    const last = { type: 'ready', from: 'a', nonce, digest: OURS } as const
    expect(only(bench.tell(last, FIRST_DEADLINE_MS), 'settle')).toHaveLength(1)
  })

  test('never gives up what it has begun to settle', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
    bench.tell({ type: 'broken', nonce, reason: 'lost' })
    bench.wait(60_000)
    expect(bench.peer.view.failedSwaps).toBe(0)
    expect(sent(bench.tell({ type: 'settled', nonce, distance: 0 }), 'commit')).toHaveLength(1)
  })
})

describe('after BUSY', () => {
  test('it tries two other links, then trains on', () => {
    const bench = trainingPeer({}, ['a', 'b', 'c', 'd'])
    const asked: string[] = []
    let effects = bench.endRound()
    for (let offers = sent(effects, 'offer'); offers.length > 0; offers = sent(effects, 'offer')) {
      const { to, nonce } = offers[0]!
      asked.push(to)
      const declined = { type: 'declined', from: to, nonce, reason: 'busy' } as const
      effects = [...bench.tell(declined), ...bench.wait(1000)]
    }
    expect(new Set(asked).size).toBe(3)
    expect(asked).toHaveLength(3)
  })

  test('it offers again at the end of the next round', () => {
    const bench = trainingPeer()
    const nonce = offering(bench)
    bench.tell({ type: 'declined', from: 'a', nonce, reason: 'busy' })
    expect(sent(bench.wait(5000), 'offer')).toEqual([])
    expect(sent(bench.endRound(), 'offer')).toHaveLength(1)
  })
})

describe('the accepter', () => {
  test('answers an offer at once and encodes its copy as the offer asks', () => {
    const bench = accepter()
    const offer = { from: 'a', nonce: nonceOf('one'), codec: 'float32', steps: 3 } as const
    const effects = bench.tell({ type: 'offered', ...offer })
    expect(sent(effects, 'accept')).toMatchObject([{ to: 'a', nonce: offer.nonce }])
    expect(only(effects, 'give')).toMatchObject([{ what: 'copy', codec: 'float32' }])
  })

  test('says READY when both copies are whole, and settles with the codec of the offer on COMMIT', () => {
    const bench = accepter()
    const nonce = nonceOf('one')
    bench.tell({ type: 'offered', from: 'a', nonce, codec: 'float32', steps: 3 })
    const received = bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    expect(sent(received, 'ready')).toEqual([])
    const gave = bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 1 })
    expect(types(gave).slice(0, 2)).toEqual(['params', 'ready'])
    expect(sent(gave, 'ready')).toMatchObject([{ digest: THEIRS }])
    const committed = bench.tell({ type: 'committed', from: 'a', nonce, digest: OURS })
    expect(only(committed, 'settle')).toEqual([
      { type: 'settle', nonce, role: 'accepter', codec: 'float32', received: [nonce] },
    ])
  })

  test('stays in doubt when COMMIT names another copy than ours', () => {
    const bench = accepter()
    const nonce = ready(bench)
    const wrong = { type: 'committed', from: 'a', nonce, digest: digestOf('other') } as const
    expect(only(bench.tell(wrong), 'settle')).toEqual([])
    bench.wait(FIRST_DEADLINE_MS + 1)
    expect(bench.peer.view.inDoubt).toBe(1)
  })

  test('drops the swap without a doubt when the stream breaks before READY', () => {
    const bench = accepter()
    const nonce = nonceOf('one')
    bench.tell({ type: 'offered', from: 'a', nonce, codec: 'int8', steps: 3 })
    const effects = bench.tell({ type: 'broken', nonce, reason: 'lost' })
    expect(only(effects, 'release')).toEqual([{ type: 'release', nonce }])
    expect(bench.peer.view).toMatchObject({ inDoubt: 0, failedSwaps: 1 })
  })

  test('says BUSY to a third peer while a swap is on, and changes nothing', () => {
    const bench = accepter(['a', 'b'])
    const nonce = ready(bench)
    const other = { from: 'b', nonce: nonceOf('two'), codec: 'int8', steps: 3 } as const
    const effects = bench.tell({ type: 'offered', ...other })
    expect(sent(effects, 'busy')).toMatchObject([{ to: 'b', reason: 'busy' }])
    const committed = bench.tell({ type: 'committed', from: 'a', nonce, digest: OURS })
    expect(only(committed, 'settle')).toHaveLength(1)
  })

  test.each(['accepted', 'ready', 'committed'] as const)('ignores %s from a stranger', (type) => {
    const bench = accepter(['a', 'b'])
    const nonce = ready(bench)
    const effects = bench.tell({ type, from: 'b', nonce, digest: OURS, steps: 1 })
    expect(only(effects, 'settle')).toEqual([])
    expect(
      only(bench.tell({ type: 'committed', from: 'a', nonce, digest: OURS }), 'settle'),
    ).toHaveLength(1)
  })
})

describe('a swap in doubt', () => {
  test('is asked about by nonce, with growing pauses up to 15 s', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    const start = bench.now
    const at: number[] = []
    while (bench.now < start + 60_000) {
      if (sent(bench.wait(100), 'ask').some((ask) => ask.nonce === nonce))
        at.push(bench.now - start)
    }
    const pauses = at.map((time, index) => time - (at[index - 1] ?? 0))
    expect(pauses.slice(0, 4)).toEqual([500, 500, 1000, 2000])
    expect(Math.max(...pauses)).toBeLessThanOrEqual(15_000)
    expect(at.length).toBeGreaterThan(6)
  })

  test('settles late when told it was committed, and only once', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    const told = { type: 'told', from: 'a', nonce, outcome: 'committed' } as const
    expect(only(bench.tell(told), 'settle')).toMatchObject([{ nonce, role: 'accepter' }])
    expect(only(bench.tell(told), 'settle')).toEqual([])
    const settled = bench.tell({ type: 'settled', nonce, distance: 1 })
    expect(only(settled, 'release')).toEqual([{ type: 'release', nonce }])
    expect(bench.peer.view).toMatchObject({ inDoubt: 0, swaps: 1, lostDoubts: 0 })
  })

  test('is forgotten when told it was aborted', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    const effects = bench.tell({ type: 'told', from: 'a', nonce, outcome: 'aborted' })
    expect(only(effects, 'release')).toEqual([{ type: 'release', nonce }])
    expect(only(effects, 'settle')).toEqual([])
    expect(bench.peer.view).toMatchObject({ inDoubt: 0, swaps: 0, lostDoubts: 0 })
  })

  test('goes on being asked about while the answer is pending', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    bench.tell({ type: 'told', from: 'a', nonce, outcome: 'pending' })
    expect(sent(bench.wait(1000), 'ask')).not.toEqual([])
  })

  test('believes nobody but its offerer', () => {
    const bench = accepter(['a', 'b'])
    const nonce = inDoubt(bench)
    const told = { type: 'told', from: 'b', nonce, outcome: 'committed' } as const
    expect(only(bench.tell(told), 'settle')).toEqual([])
    expect(bench.peer.view.inDoubt).toBe(1)
  })

  test('dials an offerer that it cannot ask', () => {
    const bench = accepter()
    inDoubt(bench)
    bench.tell({ type: 'unlinked', peer: 'a' })
    const effects = bench.wait(1000)
    expect(sent(effects, 'ask')).toEqual([])
    expect(only(effects, 'dial')).toContainEqual({ type: 'dial', peer: 'a' })
  })

  test('is dropped and counted after ten minutes', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    bench.wait(10 * 60_000)
    expect(bench.peer.view).toMatchObject({ inDoubt: 1, lostDoubts: 0 })
    const effects = bench.wait(16_000)
    expect(only(effects, 'release')).toContainEqual({ type: 'release', nonce })
    expect(bench.peer.view).toMatchObject({ inDoubt: 0, lostDoubts: 1 })
  })

  test('is asked about once more by who leaves, and settled when the answer comes in time', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    bench.wait(60_000)
    expect(only(bench.tell({ type: 'leave', reason: 'asked' }), 'stop')).toEqual([])
    expect(sent(bench.wait(1), 'ask')).toMatchObject([{ to: 'a', nonce }])
    bench.tell({ type: 'told', from: 'a', nonce, outcome: 'committed' })
    const effects = bench.tell({ type: 'settled', nonce, distance: 1 })
    expect(only(effects, 'stop')).toHaveLength(1)
    expect(bench.peer.view).toMatchObject({ lostDoubts: 0, inDoubt: 0, swaps: 1 })
  })

  test('is dropped and counted when its peer leaves and hears nothing in 3 s', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    bench.tell({ type: 'leave', reason: 'asked' })
    expect(only(bench.wait(2900), 'stop')).toEqual([])
    const effects = bench.wait(200)
    expect(only(effects, 'release')).toEqual([{ type: 'release', nonce }])
    expect(only(effects, 'stop')).toHaveLength(1)
    expect(bench.peer.view).toMatchObject({ lostDoubts: 1, inDoubt: 0 })
  })

  test('so is one whose READY is said and whose stream is still open', () => {
    const bench = accepter()
    ready(bench)
    bench.tell({ type: 'leave', reason: 'asked' })
    expect(only(bench.wait(3100), 'stop')).toHaveLength(1)
    expect(bench.peer.view.lostDoubts).toBe(1)
  })

  test('an offer that nobody accepted, and a swap that only begins, are no doubt when their peer leaves', () => {
    for (const begin of [offering, exchanging]) {
      const bench = trainingPeer()
      begin(bench)
      bench.tell({ type: 'leave', reason: 'asked' })
      expect(only(bench.wait(3100), 'stop')).toHaveLength(1)
      expect(bench.peer.view.lostDoubts).toBe(0)
    }
  })

  test('is counted when its peer has done its rounds and stops by itself', () => {
    const bench = accepter()
    inDoubt(bench)
    bench.tell({ type: 'finish' })
    bench.tell({ type: 'unlinked', peer: 'a' })
    expect(only(bench.endRound(), 'stop')).toHaveLength(1)
    expect(bench.peer.view.lostDoubts).toBe(1)
  })

  test('keeps its two copies whatever else comes under its nonce', () => {
    const bench = accepter()
    const nonce = inDoubt(bench)
    const hostile = [
      ...bench.tell({ type: 'offered', from: 'a', nonce, codec: 'int8', steps: 1 }),
      ...bench.tell({ type: 'received', nonce, digest: digestOf('evil'), bytes: COPY_BYTES }),
      ...bench.tell({ type: 'pull-asked', from: 'a', nonce, what: 'state', codec: 'int8' }),
      ...bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 1 }),
      ...bench.tell({ type: 'broken', nonce, reason: 'closed' }),
    ]
    expect(only(hostile, 'release')).toEqual([])
    expect(only(hostile, 'give')).toEqual([])
    expect(sent(hostile, 'busy')).toHaveLength(2)
  })

  test('stops new acceptances at four', () => {
    const bench = accepter()
    for (const name of ['one', 'two', 'three', 'four']) inDoubt(bench, name)
    const fifth = { from: 'a', nonce: nonceOf('five'), codec: 'int8', steps: 3 } as const
    const effects = bench.tell({ type: 'offered', ...fifth })
    expect(bench.peer.view.inDoubt).toBe(4)
    expect(sent(effects, 'busy')).toMatchObject([{ reason: 'in-doubt' }])
  })
})

describe('asked how a swap ended, the offerer answers', () => {
  test('committed when it has settled, however often it is asked', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
    bench.tell({ type: 'settled', nonce, distance: 2 })
    for (let time = 0; time < 2; time++) {
      const effects = bench.tell({ type: 'asked', from: 'a', nonce })
      expect(sent(effects, 'told')).toMatchObject([{ to: 'a', nonce, outcome: 'committed' }])
    }
  })

  test('pending while it settles', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
    const effects = bench.tell({ type: 'asked', from: 'a', nonce })
    expect(sent(effects, 'told')).toMatchObject([{ outcome: 'pending' }])
  })

  test('aborted when it does not know the swap', () => {
    const effects = trainingPeer().tell({ type: 'asked', from: 'a', nonce: nonceOf('one') })
    expect(sent(effects, 'told')).toMatchObject([{ outcome: 'aborted' }])
  })

  test('aborted while it exchanges, after which that swap can never commit', () => {
    const bench = trainingPeer()
    const nonce = exchanging(bench)
    const effects = bench.tell({ type: 'asked', from: 'a', nonce })
    expect(sent(effects, 'told')).toMatchObject([{ outcome: 'aborted' }])
    const after = [
      ...bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES }),
      ...bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS }),
    ]
    expect(only(after, 'settle')).toEqual([])
  })

  test('committed from the outcomes of the run before', () => {
    const outcomes = [nonceOf('before')]
    const resumed = { steps: 10, rounds: 1, outcomes, adopt: false }
    const bench = trainingPeer({ resumed })
    const effects = bench.tell({ type: 'asked', from: 'a', nonce: outcomes[0]! })
    expect(sent(effects, 'told')).toMatchObject([{ outcome: 'committed' }])
  })
})

describe('crossing offers', () => {
  test('the lower peer id stands: ours is void when theirs is lower', () => {
    const bench = trainingPeer()
    const own = offering(bench)
    const theirs = nonceOf('theirs')
    const effects = bench.tell({
      type: 'offered',
      from: 'a',
      nonce: theirs,
      codec: 'int8',
      steps: 9,
    })
    expect(sent(effects, 'accept')).toMatchObject([{ to: 'a', nonce: theirs }])
    expect(only(effects, 'close')).toEqual([{ type: 'close', nonce: own }])
    const late = bench.tell({ type: 'accepted', from: 'a', nonce: own, steps: 9 })
    expect(only(late, 'give')).toEqual([])
  })

  test('the lower peer id stands: ours goes on when theirs is higher', () => {
    const bench = trainingPeer({}, ['z'])
    const own = sent(bench.endRound(), 'offer')[0]!.nonce
    const theirs = nonceOf('theirs')
    const effects = bench.tell({
      type: 'offered',
      from: 'z',
      nonce: theirs,
      codec: 'int8',
      steps: 9,
    })
    expect(sent(effects, 'busy')).toMatchObject([{ to: 'z', nonce: theirs, reason: 'crossed' }])
    const accepted = bench.tell({ type: 'accepted', from: 'z', nonce: own, steps: 9 })
    expect(only(accepted, 'give')).toHaveLength(1)
  })

  test('two peers that offer to each other swap once', () => {
    const low = trainingPeer({ self: 'a', freshNonce: () => nonceOf('of a') }, ['b'])
    const high = trainingPeer({ self: 'b', freshNonce: () => nonceOf('of b') }, ['a'])
    const [fromLow] = sent(low.endRound(), 'offer')
    const [fromHigh] = sent(high.endRound(), 'offer')
    const rest = { codec: 'int8', steps: 1 } as const
    const atLow = low.tell({ type: 'offered', from: 'b', nonce: fromHigh!.nonce, ...rest })
    const atHigh = high.tell({ type: 'offered', from: 'a', nonce: fromLow!.nonce, ...rest })
    expect(sent(atLow, 'accept')).toHaveLength(0)
    expect(sent(atHigh, 'accept')).toHaveLength(1)
  })
})

describe('the budget', () => {
  test('counts swaps offered and accepted together', () => {
    const bench = trainingPeer({ swapsPerRound: 1 })
    const nonce = exchanging(bench)
    bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
    bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
    bench.tell({ type: 'settled', nonce, distance: 2 })
    const offer = { from: 'a', nonce: nonceOf('two'), codec: 'int8', steps: 1 } as const
    const effects = bench.tell({ type: 'offered', ...offer })
    expect(sent(effects, 'busy')).toMatchObject([{ reason: 'budget' }])
  })

  test('a peer offers what is left of it after a swap, and then no more', () => {
    const bench = trainingPeer()
    let offers = sent(bench.endRound(), 'offer')
    let made = 0
    while (offers.length > 0) {
      const { nonce } = offers[0]!
      bench.tell({ type: 'accepted', from: 'a', nonce, steps: 10 })
      bench.tell({ type: 'gave', nonce, digest: OURS, bytes: COPY_BYTES, steps: 10 })
      bench.tell({ type: 'received', nonce, digest: THEIRS, bytes: COPY_BYTES })
      bench.tell({ type: 'ready', from: 'a', nonce, digest: OURS })
      bench.tell({ type: 'settled', nonce, distance: 2 })
      made += 1
      offers = sent(bench.wait(2000), 'offer')
    }
    expect(made).toBe(2)
  })

  test('a round nobody was free in is made up for, and no more than one', () => {
    const bench = trainingPeer({ swapsPerRound: 1 }, [])
    for (let round = 0; round < 5; round++) bench.endRound()
    bench.meet('a')
    let accepted = 0
    for (let name = 0; name < 5; name++) {
      const nonce = nonceOf(`offer-${name}`)
      const effects = bench.tell({ type: 'offered', from: 'a', nonce, codec: 'int8', steps: 1 })
      accepted += sent(effects, 'accept').length
      bench.tell({ type: 'broken', nonce, reason: 'lost' })
    }
    expect(accepted).toBe(2)
  })
})

test('a neighbour that fails is left alone for a second, then longer', () => {
  const bench = trainingPeer()
  const nonce = offering(bench)
  bench.tell({ type: 'broken', nonce, reason: 'lost' })
  expect(sent(bench.tell({ type: 'tick' }, 900), 'offer')).toEqual([])
  expect(sent(bench.endRound(), 'offer')).toEqual([])
  bench.wait(1500)
  const again = sent(bench.endRound(), 'offer')
  expect(again).toHaveLength(1)
  bench.tell({ type: 'broken', nonce: again[0]!.nonce, reason: 'lost' })
  bench.wait(1500)
  expect(sent(bench.endRound(), 'offer')).toEqual([])
})

test('an offer to or from a peer that left is no business of ours', () => {
  const bench = trainingPeer()
  bench.tell({ type: 'card', card: cardOf('a', { phase: 'leaving', sequence: 2 }) })
  expect(sent(bench.endRound(), 'offer')).toEqual([])
  expect(bench.peer.view.links).toBe(0)
})
