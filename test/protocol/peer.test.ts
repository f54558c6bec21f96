import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PeerEffect, PeerEvent } from '../../protocol/peer.ts'
import {
  type Bench,
  cardOf,
  digestOf,
  nonceOf,
  only,
  sent,
  startPeer,
  trained,
  trainingPeer,
} from '../support/peer.ts'

const COPY_BYTES = 1000

/** One swap that we accept, from offer to end. */
function swapOnce(bench: Bench, name: string, from = 'a'): PeerEffect[] {
  const nonce = nonceOf(name)
  bench.tell({ type: 'offered', from, nonce, codec: 'int8', steps: 10 })
  bench.tell({ type: 'gave', nonce, digest: digestOf('g'), bytes: COPY_BYTES, steps: 10 })
  bench.tell({ type: 'received', nonce, digest: digestOf('r'), bytes: COPY_BYTES })
  bench.tell({ type: 'committed', from, nonce, digest: digestOf('g') })
  return bench.tell({ type: 'settled', nonce, distance: 1 })
}

function phases(effects: readonly PeerEffect[]): string[] {
  return only(effects, 'report').flatMap(({ report }) =>
    report.ev === 'phase' ? [report.phase] : [],
  )
}

describe('rounds', () => {
  test('the first has the H steps of the recipe', () => {
    expect(only(startPeer({ swap: false }).tell({ type: 'joined' }), 'train')).toEqual([
      { type: 'train', steps: 10 },
    ])
  })

  test('are lengthened until they last 250 ms', () => {
    const bench = trainingPeer()
    expect(only(bench.tell(trained(10, 10)), 'train')).toEqual([{ type: 'train', steps: 250 }])
  })

  test('never have fewer steps than H, however slow', () => {
    const bench = trainingPeer()
    expect(only(bench.tell(trained(10, 60_000)), 'train')).toEqual([{ type: 'train', steps: 10 }])
  })

  test('have exactly H steps when strict, and wait for their meeting', () => {
    const bench = trainingPeer({ strict: true, swapsPerRound: 1 })
    const effects = bench.tell(trained(10, 10))
    const { nonce } = sent(effects, 'offer')[0]!
    expect(only(effects, 'train')).toEqual([])
    const after = bench.tell({ type: 'declined', from: 'a', nonce, reason: 'budget' })
    expect(only([...after, ...bench.wait(100)], 'train')).toEqual([{ type: 'train', steps: 10 }])
  })

  test('ask a busy peer again when strict, for two seconds at most when they are short', () => {
    const bench = trainingPeer({ strict: true, swapsPerRound: 1 })
    let effects = bench.tell(trained(10, 10))
    const begun = bench.now
    let asked = 0
    while (only(effects, 'train').length === 0 && bench.now < begun + 10_000) {
      for (const { nonce } of sent(effects, 'offer')) {
        asked++
        bench.tell({ type: 'declined', from: 'a', nonce, reason: 'busy' })
      }
      effects = bench.wait(20)
    }
    expect(asked).toBeGreaterThan(10)
    expect(only(effects, 'train')).toEqual([{ type: 'train', steps: 10 }])
    expect(bench.now - begun).toBeGreaterThan(1500)
    expect(bench.now - begun).toBeLessThan(2200)
  })

  test('when strict, do not wait for who is more than four rounds behind', () => {
    const bench = trainingPeer({ strict: true, swapsPerRound: 1 }, [])
    for (let round = 0; round < 5; round++) bench.endRound()
    bench.meet('a', { steps: 10 })
    const { nonce } = sent(bench.endRound(), 'offer')[0]!
    const after = bench.tell({ type: 'declined', from: 'a', nonce, reason: 'budget' })
    expect(only([...after, ...bench.wait(100)], 'train')).toHaveLength(1)
  })

  test.each([
    ['who waits for us to be busy', 10, 'busy'],
    ['who is level with us, or behind, to go on', 0, 'budget'],
    ['who is a round behind to go on', -10, 'budget'],
  ] as const)('in the middle of a strict one we tell %s', (_, ahead, reason) => {
    const bench = trainingPeer({ strict: true })
    const offer = { from: 'a', nonce: nonceOf('one'), codec: 'int8', steps: 10 + ahead } as const
    expect(sent(bench.tell({ type: 'offered', ...offer }), 'busy')).toMatchObject([{ reason }])
  })

  test('in the middle of a strict one we accept who is many rounds ahead: it does not wait for us', () => {
    const bench = trainingPeer({ strict: true, swapsPerRound: 1 }, ['a', 'b'])
    const { nonce } = sent(bench.endRound(), 'offer')[0]!
    bench.tell({ type: 'declined', from: 'a', nonce, reason: 'no-swap' })
    bench.wait(10_000)
    expect(bench.peer.view.stage).toBe('training')
    const offer = { nonce: nonceOf('one'), codec: 'int8', steps: 1000 } as const
    expect(sent(bench.tell({ type: 'offered', from: 'b', ...offer }), 'accept')).toHaveLength(1)
  })

  test('a strict one meets the partner of its turn alone, and others when that one is not to be had', () => {
    const bench = trainingPeer({ strict: true, swapsPerRound: 2 }, ['a', 'b', 'c'])
    const [first, ...more] = sent(bench.endRound(), 'offer')
    expect(more).toEqual([])
    const { to: partner, nonce } = first!
    const others = ['a', 'b', 'c'].filter((peer) => peer !== partner)
    bench.tell({ type: 'declined', from: partner, nonce, reason: 'busy' })
    const offer = { nonce: nonceOf('two'), codec: 'int8', steps: 20 } as const
    const refused = bench.tell({ type: 'offered', from: others[0]!, ...offer })
    expect(sent(refused, 'busy')).toMatchObject([{ reason: 'busy' }])
    const [again] = sent(bench.wait(200), 'offer')
    expect(again).toMatchObject({ to: partner })
    const gone = { from: partner, nonce: again!.nonce, reason: 'paused' } as const
    bench.tell({ type: 'declined', ...gone })
    const next = bench.wait(200)
    expect(others).toContain(sent(next, 'offer')[0]!.to)
  })

  test('go on during a swap when not strict', () => {
    expect(only(trainingPeer().endRound(), 'train')).toHaveLength(1)
  })

  test('are reported with their loss, and measured', () => {
    const effects = trainingPeer().endRound()
    const report = { ev: 'round', round: 1, steps: 10, loss: 1, samples: 10 }
    expect(only(effects, 'report')).toContainEqual({ type: 'report', report })
    expect(only(effects, 'evaluate')).toEqual([{ type: 'evaluate', at: 'trained', round: 1 }])
  })

  test('a peer without swaps never offers, and refuses', () => {
    const bench = trainingPeer({ swap: false })
    expect(sent(bench.endRound(), 'offer')).toEqual([])
    const offer = { from: 'a', nonce: nonceOf('one'), codec: 'int8', steps: 1 } as const
    expect(sent(bench.tell({ type: 'offered', ...offer }), 'busy')).toMatchObject([
      { reason: 'no-swap' },
    ])
  })
})

describe('settling', () => {
  /** Our one round is done, and `a` still trains with fewer steps. */
  function settling() {
    const bench = trainingPeer({ rounds: 1 })
    const effects = bench.endRound()
    return { bench, effects }
  }

  test('comes after the rounds of our budget: no more training, and a card that says so', () => {
    const { bench, effects } = settling()
    expect(bench.peer.view.stage).toBe('settling')
    expect(only(effects, 'train')).toEqual([])
    expect(only(effects, 'publish').at(-1)).toMatchObject({ card: { phase: 'settling' } })
    expect(phases(effects)).toEqual(['settling'])
  })

  test('goes on swapping with those who settle until the mean steps reach ours, then 8 times more', () => {
    const { bench } = settling()
    bench.meet('b')
    bench.tell({ type: 'card', card: cardOf('b', { phase: 'settling', sequence: 2 }) })
    bench.wait(10_000) // what it offered at the end of its round has failed by then
    const { swaps } = bench.peer.view
    for (let swap = 0; swap < 12; swap++) swapOnce(bench, `early ${swap}`, 'b')
    expect(bench.peer.view.swaps).toBe(swaps + 12)
    expect(bench.peer.view.stage).toBe('settling')
    bench.tell({ type: 'card', card: cardOf('a', { steps: 99, sequence: 2 }) })
    for (let swap = 0; swap < 7; swap++) swapOnce(bench, `late ${swap}`)
    expect(bench.peer.view.stage).toBe('settling')
    swapOnce(bench, 'last')
    expect(bench.peer.view.stage).toBe('done')
  })

  test('does not wait for steps that nobody is left to make', () => {
    const { bench } = settling()
    bench.tell({ type: 'card', card: cardOf('a', { phase: 'settling', sequence: 2 }) })
    for (let swap = 0; swap < 8; swap++) swapOnce(bench, `swap ${swap}`)
    expect(bench.peer.view.stage).toBe('done')
  })

  test('does not wait for one that is gone, of which only the card says that it trains', () => {
    const { bench } = settling()
    bench.tell({ type: 'card', card: cardOf('gone', { steps: 5 }) })
    bench.tell({ type: 'unreached', peer: 'gone' })
    bench.tell({ type: 'card', card: cardOf('a', { phase: 'settling', sequence: 2 }) })
    for (let swap = 0; swap < 8; swap++) swapOnce(bench, `swap ${swap}`)
    expect(bench.peer.view.stage).toBe('done')
  })

  test('waits for a late trainer no longer than 60 s', () => {
    const { bench } = settling()
    bench.wait(59_000)
    for (let swap = 0; swap < 8; swap++) swapOnce(bench, `early ${swap}`)
    expect(bench.peer.view.stage).toBe('settling')
    bench.wait(1500)
    for (let swap = 0; swap < 8; swap++) swapOnce(bench, `late ${swap}`)
    expect(bench.peer.view.stage).toBe('done')
  })

  test('while it waits for one that still trains it neither offers to it nor accepts from it', () => {
    const { bench } = settling()
    bench.wait(10_000)
    expect(sent(bench.wait(30_000), 'offer')).toEqual([])
    const nonce = nonceOf('theirs')
    const answers = bench.tell({ type: 'offered', from: 'a', nonce, codec: 'int8', steps: 5 })
    expect(sent(answers, 'busy')).toMatchObject([{ reason: 'budget' }])
  })

  test('ends even when nobody swaps with us any more', () => {
    const { bench } = settling()
    const effects = bench.wait(110_000)
    expect(only(effects, 'stop')).toEqual([{ type: 'stop', reason: 'budget' }])
  })

  test('goes on offering to busy peers, a few dozen times a second and not more', () => {
    const { bench, effects } = settling()
    const settled = cardOf('a', { phase: 'settling', sequence: 2 })
    let offers = sent([...effects, ...bench.tell({ type: 'card', card: settled })], 'offer')
    let made = 0
    for (let ms = 0; ms < 1000; ms += 5) {
      for (const { nonce } of offers) {
        made += 1
        bench.tell({ type: 'declined', from: 'a', nonce, reason: 'busy' })
      }
      offers = sent(bench.wait(5), 'offer')
    }
    expect(made).toBeGreaterThan(10)
    expect(made).toBeLessThan(60)
  })

  test('a peer that is done answers those who still settle, quietly, then stops', () => {
    const { bench } = settling()
    bench.tell({ type: 'card', card: cardOf('a', { phase: 'settling', sequence: 2 }) })
    for (let swap = 0; swap < 8; swap++) swapOnce(bench, `swap ${swap}`)
    swapOnce(bench, 'answered')
    expect(bench.peer.view.swaps).toBe(9)
    const ticks = only(bench.wait(3000), 'timer')
    expect(ticks.length).toBeLessThan(10)
    const effects = bench.tell({ type: 'card', card: cardOf('a', { phase: 'done', sequence: 3 }) })
    expect(only(effects, 'stop')).toEqual([{ type: 'stop', reason: 'budget' }])
    expect(only(effects, 'publish').at(-1)).toMatchObject({ card: { phase: 'leaving' } })
  })

  test('alone there is nobody to agree with: it stops', () => {
    const bench = trainingPeer({ rounds: 1 }, [])
    expect(only(bench.endRound(), 'stop')).toEqual([{ type: 'stop', reason: 'budget' }])
  })

  test('finish ends the training of a peer without a budget', () => {
    const bench = trainingPeer()
    bench.tell({ type: 'finish' })
    bench.endRound()
    expect(bench.peer.view.stage).toBe('settling')
  })

  test('finish ends a pause: a paused peer goes on, and settles', () => {
    const bench = trainingPeer()
    bench.tell({ type: 'pause' })
    bench.endRound()
    expect(bench.peer.view.stage).toBe('training')
    bench.tell({ type: 'finish' })
    expect(bench.peer.view.stage).toBe('settling')
  })

  test('a resumed run trains what is left of its budget', () => {
    const resumed = { steps: 30, rounds: 3, outcomes: [], adopt: false }
    const bench = trainingPeer({ rounds: 4, resumed }, [])
    expect(only(bench.endRound(), 'stop')).toHaveLength(1)
  })
})

describe('leaving', () => {
  test('stops at once when nothing is in flight, with a card that says goodbye', () => {
    const effects = trainingPeer().tell({ type: 'leave', reason: 'SIGINT' })
    expect(only(effects, 'publish')).toMatchObject([{ card: { phase: 'leaving' } }])
    expect(only(effects, 'stop')).toEqual([{ type: 'stop', reason: 'SIGINT' }])
  })

  test('finishes the swap in flight first', () => {
    const bench = trainingPeer()
    const { nonce } = sent(bench.endRound(), 'offer')[0]!
    bench.tell({ type: 'accepted', from: 'a', nonce, steps: 10 })
    expect(only(bench.tell({ type: 'leave', reason: 'asked' }), 'stop')).toEqual([])
    bench.tell({ type: 'gave', nonce, digest: digestOf('g'), bytes: COPY_BYTES, steps: 10 })
    bench.tell({ type: 'received', nonce, digest: digestOf('r'), bytes: COPY_BYTES })
    bench.tell({ type: 'ready', from: 'a', nonce, digest: digestOf('g') })
    const effects = bench.tell({ type: 'settled', nonce, distance: 0 })
    expect(sent(effects, 'commit')).toHaveLength(1)
    expect(only(effects, 'stop')).toHaveLength(1)
  })

  test('waits for that swap no longer than 3 s', () => {
    const bench = trainingPeer()
    bench.endRound()
    bench.tell({ type: 'leave', reason: 'asked' })
    expect(only(bench.wait(2900), 'stop')).toEqual([])
    expect(only(bench.wait(200), 'stop')).toHaveLength(1)
  })

  test('accepts nothing new meanwhile', () => {
    const bench = trainingPeer({}, ['a', 'b'])
    bench.endRound()
    bench.tell({ type: 'leave', reason: 'asked' })
    const offer = { from: 'b', nonce: nonceOf('one'), codec: 'int8', steps: 1 } as const
    expect(sent(bench.tell({ type: 'offered', ...offer }), 'busy')).toHaveLength(1)
  })

  test('is final: a stopped peer answers nothing', () => {
    const bench = trainingPeer()
    bench.tell({ type: 'leave', reason: 'asked' })
    expect(bench.endRound()).toEqual([])
    expect(bench.tell({ type: 'tick' })).toEqual([])
  })
})

describe('pause', () => {
  test('ends training after the round, and says BUSY', () => {
    const bench = trainingPeer()
    expect(phases(bench.tell({ type: 'pause' }))).toEqual(['paused'])
    const effects = bench.endRound()
    expect(only(effects, 'train')).toEqual([])
    expect(sent(effects, 'offer')).toEqual([])
    const offer = { from: 'a', nonce: nonceOf('one'), codec: 'int8', steps: 1 } as const
    expect(sent(bench.tell({ type: 'offered', ...offer }), 'busy')).toMatchObject([
      { reason: 'paused' },
    ])
  })

  test('resume goes on', () => {
    const bench = trainingPeer()
    bench.tell({ type: 'pause' })
    bench.endRound()
    const effects = bench.tell({ type: 'resume' })
    expect(only(effects, 'train')).toHaveLength(1)
    expect(phases(effects)).toEqual(['training'])
  })
})

describe('swaps that are not allowed', () => {
  const offer = {
    type: 'offered',
    from: 'a',
    nonce: nonceOf('one'),
    codec: 'int8',
    steps: 9,
  } as const
  const pull = { ...offer, type: 'pull-asked', nonce: nonceOf('two'), what: 'state' } as const

  test('are not offered, while rounds go on alone', () => {
    const bench = trainingPeer()
    expect(phases(bench.tell({ type: 'swapping', allowed: false }))).toEqual(['offline-training'])
    for (let round = 0; round < 5; round++) {
      const effects = [...bench.endRound(), ...bench.wait(1000)]
      expect(sent(effects, 'offer')).toEqual([])
      expect(only(effects, 'train')).toEqual([{ type: 'train', steps: 10 }])
    }
  })

  test('are refused for want of budget, and so are pulls', () => {
    const bench = trainingPeer()
    bench.endRound()
    bench.tell({ type: 'swapping', allowed: false })
    expect(sent(bench.tell(offer), 'busy')).toMatchObject([{ to: 'a', reason: 'budget' }])
    expect(sent(bench.tell(pull), 'busy')).toMatchObject([{ to: 'a', reason: 'budget' }])
  })

  test('are offered again when they are allowed, and accepted', () => {
    const bench = trainingPeer({ swapsPerRound: 1 })
    bench.tell({ type: 'swapping', allowed: false })
    bench.endRound()
    expect(phases(bench.tell({ type: 'swapping', allowed: true }))).toEqual(['training'])
    expect(sent(bench.tell(offer), 'accept')).toHaveLength(1)
    bench.tell({ type: 'broken', nonce: offer.nonce, reason: 'gone' })
    bench.wait(5000)
    expect(sent(bench.endRound(), 'offer')).toHaveLength(1)
  })

  test('do not break off the one that is under way', () => {
    const bench = trainingPeer()
    const { nonce } = sent(bench.endRound(), 'offer')[0]!
    bench.tell({ type: 'accepted', from: 'a', nonce, steps: 10 })
    bench.tell({ type: 'swapping', allowed: false })
    bench.tell({ type: 'gave', nonce, digest: digestOf('g'), bytes: COPY_BYTES, steps: 10 })
    bench.tell({ type: 'received', nonce, digest: digestOf('r'), bytes: COPY_BYTES })
    bench.tell({ type: 'ready', from: 'a', nonce, digest: digestOf('g') })
    expect(sent(bench.tell({ type: 'settled', nonce, distance: 1 }), 'commit')).toHaveLength(1)
    expect(bench.peer.view.swaps).toBe(1)
  })

  test('let a newcomer begin from its version at once', () => {
    const bench = startPeer({ swapping: false })
    expect(only(bench.tell({ type: 'joined' }), 'train')).toHaveLength(1)
    const late = startPeer()
    late.tell({ type: 'joined' })
    expect(only(late.tell({ type: 'swapping', allowed: false }), 'train')).toHaveLength(1)
  })

  test('end a run that has only to settle', () => {
    const bench = trainingPeer({ rounds: 1 })
    bench.endRound()
    expect(bench.peer.view.stage).toBe('settling')
    const effects = [...bench.tell({ type: 'swapping', allowed: false }), ...bench.wait(6000)]
    expect(only(effects, 'stop')).toEqual([{ type: 'stop', reason: 'budget' }])
  })

  test('keep who slept meanwhile training, and it takes over a state once they are allowed', () => {
    const bench = trainingPeer()
    bench.endRound()
    bench.tell({ type: 'swapping', allowed: false })
    const woken = bench.tell(trained(), 3_600_000)
    expect(only(woken, 'train')).toHaveLength(1)
    expect(sent(woken, 'pull')).toEqual([])
    bench.meet('a', { sequence: 2 })
    bench.tell({ type: 'swapping', allowed: true })
    expect(sent([...bench.endRound(), ...bench.wait(500)], 'pull')).toMatchObject([
      { to: 'a', what: 'state' },
    ])
  })
})

describe('what it says of itself', () => {
  test('a card on joining, when the first steps are done, and then once a minute with jitter', () => {
    const bench = startPeer({ swap: false })
    expect(only(bench.tell({ type: 'joined' }), 'publish')).toMatchObject([{ card: { steps: 0 } }])
    expect(only(bench.endRound(), 'publish')).toMatchObject([{ card: { steps: 10 } }])
    expect(only(bench.wait(44_000), 'publish')).toEqual([])
    expect(only(bench.wait(32_000), 'publish')).toHaveLength(1)
  })

  test('less often in a large swarm: once a second for all peers together', () => {
    const bench = trainingPeer({ swap: false }, [])
    for (let index = 0; index < 599; index++)
      bench.tell({ type: 'card', card: cardOf(`p${index}`) })
    bench.wait(80_000)
    expect(only(bench.wait(440_000), 'publish')).toEqual([])
    expect(only(bench.wait(320_000), 'publish')).toMatchObject([{ livesMs: 1_500_000 }])
  })

  test('that it trains alone, offline or with the swarm', () => {
    const bench = startPeer({ resumed: { steps: 1, rounds: 0, outcomes: [], adopt: false } })
    expect(phases(bench.tell({ type: 'joined' }))).toEqual(['offline-training'])
    expect(phases(bench.tell({ type: 'reachable', count: 1 }))).toEqual(['training-alone'])
    expect(phases(bench.meet('a'))).toEqual(['training'])
    expect(phases(bench.tell({ type: 'unlinked', peer: 'a' }))).toEqual(['training-alone'])
  })

  test('how many peers it knows and is linked to, when that changes', () => {
    const bench = trainingPeer({}, [])
    const said = only(bench.meet('a'), 'report').map(({ report }) => report)
    expect(said).toContainEqual({ ev: 'peers', count: 1, direct: 1 })
    expect(only(bench.tell({ type: 'tick' }), 'report')).toEqual([])
  })

  test('each settled swap with its peer, path, bytes and distance', () => {
    const bench = trainingPeer()
    bench.tell({ type: 'pause' })
    bench.endRound()
    bench.tell({ type: 'resume' })
    const reports = only(swapOnce(bench, 'one'), 'report').map(({ report }) => report)
    const bytes = { bytesUp: COPY_BYTES, bytesDown: COPY_BYTES }
    expect(reports).toContainEqual({
      ev: 'swap',
      round: 1,
      with: 'a',
      path: 'tcp',
      ...bytes,
      distance: 1,
    })
  })
})

describe('hostile neighbours', () => {
  test('a flood of a million cards costs bounded memory', () => {
    const bench = trainingPeer()
    for (let index = 0; index < 20_000; index++)
      bench.tell({ type: 'card', card: cardOf(`p${index}`) })
    const [peers] = only(bench.tell({ type: 'reachable', count: 1 }), 'report')
    expect(peers).toBeUndefined()
    expect(only(bench.meet('friend'), 'report')[0]?.report).toMatchObject({
      ev: 'peers',
      count: 4097,
    })
  })

  test('a second offer of one nonce is refused, during its swap and after it', () => {
    const bench = trainingPeer()
    bench.tell({ type: 'pause' })
    bench.endRound()
    bench.tell({ type: 'resume' })
    const offer = {
      type: 'offered',
      from: 'a',
      nonce: nonceOf('one'),
      codec: 'int8',
      steps: 1,
    } as const
    expect(sent(bench.tell(offer), 'accept')).toHaveLength(1)
    expect(sent(bench.tell(offer), 'busy')).toHaveLength(1)
  })

  test('messages of swaps that we never had change nothing', () => {
    const bench = trainingPeer()
    const nonce = nonceOf('never')
    const before = { ...bench.peer.view }
    const digest = digestOf('d')
    const effects = [
      ...bench.tell({ type: 'accepted', from: 'a', nonce, steps: 1 }),
      ...bench.tell({ type: 'declined', from: 'a', nonce, reason: 'busy' }),
      ...bench.tell({ type: 'ready', from: 'a', nonce, digest }),
      ...bench.tell({ type: 'committed', from: 'a', nonce, digest }),
      ...bench.tell({ type: 'told', from: 'a', nonce, outcome: 'committed' }),
      ...bench.tell({ type: 'granted', from: 'a', nonce, steps: 9 }),
      ...bench.tell({ type: 'received', nonce, digest, bytes: 1 }),
      ...bench.tell({ type: 'settled', nonce, distance: 1 }),
      ...bench.tell({ type: 'adopted', nonce, steps: 1 }),
      ...bench.tell({ type: 'broken', nonce, reason: 'lost' }),
    ]
    expect(
      effects.filter(({ type }) => ['give', 'settle', 'adopt', 'send'].includes(type)),
    ).toEqual([])
    expect(bench.peer.view).toEqual(before)
  })
})

describe('any interleaving of events', () => {
  const peers = ['a', 'b', 'z']
  const from = fc.constantFrom(...peers)
  const steps = fc.nat(1000)
  const digest = fc.constantFrom(digestOf('g'), digestOf('r'), digestOf('x'))
  const codec = fc.constantFrom('int8' as const, 'float32' as const)
  const bytes = fc.constant(COPY_BYTES)
  // Nonces of ours and of others, few enough that they meet.
  const names = ['own-0', 'own-1', 'own-2', 'own-3', 'own-4', 'own-5', 'x', 'y', 'z']
  const nonce = fc.constantFrom(...names.map(nonceOf))
  const outcome = fc.constantFrom('committed' as const, 'aborted' as const, 'pending' as const)
  const phase = fc.constantFrom('training' as const, 'settling' as const, 'leaving' as const)
  const event: fc.Arbitrary<PeerEvent> = fc.oneof(
    fc.record({ type: fc.constant('offered' as const), from, nonce, codec, steps }),
    fc.record({ type: fc.constant('accepted' as const), from, nonce, steps }),
    fc.record({
      type: fc.constant('declined' as const),
      from,
      nonce,
      reason: fc.constant('busy' as const),
    }),
    fc.record({ type: fc.constant('ready' as const), from, nonce, digest }),
    fc.record({ type: fc.constant('committed' as const), from, nonce, digest }),
    fc.record({ type: fc.constant('asked' as const), from, nonce }),
    fc.record({ type: fc.constant('told' as const), from, nonce, outcome }),
    fc.record({
      type: fc.constant('pull-asked' as const),
      from,
      nonce,
      what: fc.constantFrom('state' as const, 'copy' as const),
      codec,
    }),
    fc.record({ type: fc.constant('granted' as const), from, nonce, steps }),
    fc.record({ type: fc.constant('received' as const), nonce, digest, bytes }),
    fc.record({ type: fc.constant('broken' as const), nonce, reason: fc.constant('lost') }),
    fc.record({
      type: fc.constant('linked' as const),
      peer: from,
      path: fc.constant('tcp' as const),
    }),
    fc.record({ type: fc.constant('unlinked' as const), peer: from }),
    fc.record({
      type: fc.constant('card' as const),
      card: fc.record({ peer: from, phase, steps }).map(({ peer, ...rest }) => cardOf(peer, rest)),
    }),
    fc.constantFrom<PeerEvent>(
      { type: 'tick' },
      { type: 'pause' },
      { type: 'resume' },
      { type: 'reachable', count: 1 },
    ),
    fc.constant<PeerEvent>({ type: 'finish' }),
  )
  const happening = fc.record({
    event: fc.option(event, { nil: undefined, freq: 6 }),
    afterMs: fc.oneof(
      { weight: 6, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.nat(20_000) },
    ),
    /** How many of the worker's answers come before the event. */
    answers: fc.nat(2),
  })

  /** The worker's side: it answers what it was asked, in order, and holds the copies. */
  function workerOf(bench: Bench, rule: 'swap' | 'pull') {
    const asked: PeerEffect[] = []
    const settled = new Set<string>()
    let training = 0
    let settling = 0
    const take = (effects: PeerEffect[]) => {
      for (const effect of effects) {
        if (['train', 'give', 'settle', 'adopt'].includes(effect.type)) asked.push(effect)
        if (effect.type === 'train') training += 1
        if (effect.type === 'settle') {
          // Never the same copies twice, and never two swaps of ours at once.
          expect(settled.has(effect.nonce)).toBe(false)
          settled.add(effect.nonce)
          settling += 1
        }
        if (effect.type === 'timer') expect(effect.at).toBeGreaterThan(bench.now)
      }
      expect(training).toBeLessThanOrEqual(1)
      if (rule === 'pull') expect(settling).toBeLessThanOrEqual(1)
      expect(bench.peer.view.inDoubt).toBeLessThanOrEqual(4)
    }
    const answer = (): PeerEvent | undefined => {
      const effect = asked.shift()
      switch (effect?.type) {
        case 'train':
          training -= 1
          return trained(effect.steps)
        case 'give':
          return {
            type: 'gave',
            nonce: effect.nonce,
            digest: digestOf('g'),
            bytes: COPY_BYTES,
            steps: 1,
          }
        case 'settle':
          settling -= 1
          return { type: 'settled', nonce: effect.nonce, distance: 1 }
        case 'adopt':
          return { type: 'adopted', nonce: effect.nonce, steps: effect.steps }
      }
    }
    return { take, answer }
  }

  test.each([
    { meets: 'swap', newcomer: false },
    { meets: 'swap', newcomer: true },
    { meets: 'pull', newcomer: false },
  ] as const)(
    'never throws, never swaps twice at once, never loses a copy ($meets, newcomer: $newcomer)',
    ({ meets, newcomer }) => {
      const runs = fc.property(
        fc.array(happening, { minLength: 20, maxLength: 120 }),
        (happenings) => {
          const resumed = newcomer
            ? undefined
            : { steps: 10, rounds: 0, outcomes: [], adopt: false }
          const bench = startPeer({ meets, resumed, rounds: 6 })
          const worker = workerOf(bench, meets)
          const held = new Set<string>()
          const current = new Set<string>()
          const tell = (event: PeerEvent, afterMs = 0) => {
            const effects = bench.tell(event, afterMs)
            if (event.type === 'received' || event.type === 'gave') held.add(event.nonce)
            for (const effect of effects) {
              if (effect.type === 'send' && effect.message.type === 'accept') {
                expect(current.size).toBe(0)
                current.add(effect.message.nonce)
              }
              if (effect.type === 'close') current.delete(effect.nonce)
              if (effect.type === 'settle')
                for (const nonce of effect.received) expect(held).toContain(nonce)
              if (effect.type === 'release') held.delete(effect.nonce)
            }
            worker.take(effects)
          }
          tell({ type: 'joined' })
          for (const peer of peers) {
            tell({ type: 'card', card: cardOf(peer) })
            tell({ type: 'linked', peer, path: 'tcp' })
          }
          for (const { event, afterMs, answers } of happenings) {
            for (let count = 0; count < answers; count++) {
              const answer = worker.answer()
              if (answer) tell(answer)
            }
            tell(event ?? { type: 'tick' }, afterMs)
          }
        },
      )
      fc.assert(runs, { numRuns: 400, seed: 7 })
    },
  )
})
