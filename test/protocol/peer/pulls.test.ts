import { describe, expect, test } from 'vitest'
import { DIAL_MS } from '../../../protocol/ports/network.ts'
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
} from '../../support/peer.ts'

const STATE_BYTES = 8000
const COPY_BYTES = 1000

/** A newcomer among peers that have trained. */
function newcomer(): Bench {
  const bench = startPeer()
  bench.tell({ type: 'joined' })
  return bench
}

describe('a newcomer', () => {
  test('pulls the whole state from the least loaded of those whose cards came', () => {
    const bench = newcomer()
    bench.meet('a', { load: 0.9 })
    bench.meet('b', { load: 0.1 })
    bench.meet('c', { load: 0.5 })
    const pulls = sent(bench.wait(1000), 'pull')
    expect(pulls).toMatchObject([{ to: 'b', what: 'state', codec: 'float32' }])
  })

  test('adopts what came, with the steps behind it, and then trains', () => {
    const bench = newcomer()
    bench.meet('a', { steps: 500 })
    const { nonce } = sent(bench.wait(1000), 'pull')[0]!
    bench.tell({ type: 'granted', from: 'a', nonce, steps: 512 })
    const received = bench.tell({
      type: 'received',
      nonce,
      digest: digestOf('s'),
      bytes: STATE_BYTES,
    })
    expect(only(received, 'adopt')).toEqual([{ type: 'adopt', nonce, steps: 512 }])
    expect(only(received, 'train')).toEqual([])
    const adopted = bench.tell({ type: 'adopted', nonce, steps: 512 })
    expect(only(adopted, 'train')).toHaveLength(1)
    expect(only(adopted, 'publish')).toMatchObject([{ card: { phase: 'training', steps: 512 } }])
    expect(bench.peer.view).toMatchObject({ stage: 'training', steps: 512 })
  })

  test('asks another donor when one is busy', () => {
    const bench = newcomer()
    bench.meet('a', { load: 0 })
    bench.meet('b', { load: 1 })
    const { nonce } = sent(bench.wait(1000), 'pull')[0]!
    const declined = bench.tell({ type: 'declined', from: 'a', nonce, reason: 'busy' })
    expect(sent([...declined, ...bench.wait(10)], 'pull')).toMatchObject([{ to: 'b' }])
  })

  test.each([
    // A donor serves a state so small every 0.1 s, the digits' every 4 s, and one of 10 MB every 30 s.
    [8_000, 1_000],
    [407_120, 1_018],
    [10_000_000, 5_000],
  ])(
    'with a state of %i bytes asks the same donor again after %i ms when there is no other',
    (stateBytes, afterMs) => {
      const bench = startPeer({ stateBytes })
      bench.tell({ type: 'joined' })
      bench.meet('a')
      const { nonce } = sent(bench.wait(1000), 'pull')[0]!
      bench.tell({ type: 'declined', from: 'a', nonce, reason: 'busy' })
      expect(sent(bench.wait(afterMs - 10), 'pull')).toEqual([])
      expect(sent(bench.wait(20), 'pull')).toMatchObject([{ to: 'a' }])
    },
  )

  test('starts from its version when nobody has trained within five seconds', () => {
    const bench = newcomer()
    bench.meet('a', { steps: 0, phase: 'joining' })
    expect(only(bench.wait(4900), 'train')).toEqual([])
    expect(only(bench.wait(200), 'train')).toEqual([{ type: 'train', steps: 10 }])
  })

  test('starts within a second of being told who is there, when nobody of them has trained', () => {
    const bench = newcomer()
    bench.meet('a', { steps: 0, phase: 'joining' })
    bench.tell({ type: 'introduced' })
    expect(only(bench.wait(900), 'train')).toEqual([])
    expect(only(bench.wait(200), 'train')).toEqual([{ type: 'train', steps: 10 }])
  })

  test('told of somebody who has trained, goes on asking for that state', () => {
    const bench = newcomer()
    bench.tell({ type: 'card', card: cardOf('a', { steps: 500 }) })
    bench.tell({ type: 'introduced' })
    expect(only(bench.wait(8000), 'train')).toEqual([])
    bench.meet('a', { steps: 500 })
    expect(sent(bench.wait(1000), 'pull')).toMatchObject([{ to: 'a', what: 'state' }])
  })

  test('starts from its version when all donors stay busy for over a minute', () => {
    const bench = newcomer()
    bench.meet('a')
    let trained = 0
    for (let second = 0; second < 70; second++) {
      const effects = bench.wait(1000)
      trained += only(effects, 'train').length
      for (const { to, nonce } of sent(effects, 'pull'))
        bench.tell({ type: 'declined', from: to, nonce, reason: 'busy' })
    }
    expect(trained).toBe(1)
  })

  test('goes to the next donor when a state does not come in time or breaks off', () => {
    const bench = newcomer()
    bench.meet('a', { load: 0 })
    bench.meet('b', { load: 1 })
    const { nonce } = sent(bench.wait(1000), 'pull')[0]!
    const effects = bench.tell({ type: 'broken', nonce, reason: 'lost' })
    expect(only(effects, 'release')).toEqual([{ type: 'release', nonce }])
    expect(sent([...effects, ...bench.wait(10)], 'pull')).toMatchObject([{ to: 'b' }])
    expect(sent(bench.wait(12_000), 'pull')[0]).toMatchObject({ to: 'a' })
  })

  test('forgets a state that comes after it gave up', () => {
    const bench = newcomer()
    bench.meet('a')
    const { nonce } = sent(bench.wait(1000), 'pull')[0]!
    bench.tell({ type: 'broken', nonce, reason: 'lost' })
    const late = bench.tell({ type: 'received', nonce, digest: digestOf('s'), bytes: STATE_BYTES })
    expect(only(late, 'adopt')).toEqual([])
    expect(only(late, 'release')).toEqual([{ type: 'release', nonce }])
  })

  test('says BUSY to offers and to other newcomers', () => {
    const bench = newcomer()
    bench.meet('a')
    const nonce = nonceOf('one')
    const offered = bench.tell({ type: 'offered', from: 'a', nonce, codec: 'int8', steps: 1 })
    expect(sent(offered, 'busy')).toMatchObject([{ reason: 'busy' }])
    const asked = { from: 'a', nonce, what: 'state', codec: 'float32' } as const
    expect(sent(bench.tell({ type: 'pull-asked', ...asked }), 'busy')).toHaveLength(1)
  })

  test('believes a claim of steps only as far as its own card can say it', () => {
    const bench = newcomer()
    bench.meet('a')
    const { nonce } = sent(bench.wait(1000), 'pull')[0]!
    const steps = Number.MAX_SAFE_INTEGER
    bench.tell({ type: 'granted', from: 'a', nonce, steps })
    bench.tell({ type: 'received', nonce, digest: digestOf('s'), bytes: STATE_BYTES })
    bench.tell({ type: 'adopted', nonce, steps })
    bench.endRound()
    expect(Number.isSafeInteger(bench.peer.view.steps)).toBe(true)
  })
})

describe('a resumed peer', () => {
  const resumed = { steps: 40, rounds: 4, outcomes: [] }

  test('that was away for long pulls, and goes on counting its rounds', () => {
    const bench = startPeer({ resumed: { ...resumed, adopt: true } })
    bench.tell({ type: 'joined' })
    bench.meet('a', { steps: 900 })
    const { nonce } = sent(bench.wait(1000), 'pull')[0]!
    bench.tell({ type: 'granted', from: 'a', nonce, steps: 900 })
    bench.tell({ type: 'received', nonce, digest: digestOf('s'), bytes: STATE_BYTES })
    bench.tell({ type: 'adopted', nonce, steps: 900 })
    bench.endRound()
    expect(bench.peer.view).toMatchObject({ steps: 910, round: 5 })
  })

  test('that was away shortly trains at once', () => {
    const bench = startPeer({ resumed: { ...resumed, adopt: false } })
    expect(only(bench.tell({ type: 'joined' }), 'train')).toHaveLength(1)
  })
})

describe('a peer whose rounds take milliseconds', () => {
  const quick = { strict: true, msPerRound: 5 } as const

  /** One round behind it, and the next under way. */
  function quickPeer(): Bench {
    const bench = trainingPeer({ strict: quick.strict, swapsPerRound: 1 })
    bench.tell(trained(10, quick.msPerRound))
    return bench
  }

  test('goes on from its own params after a swap that nobody answered', () => {
    const bench = quickPeer()
    const effects = bench.wait(8000)
    expect(only(effects, 'report').map(({ report }) => report.ev)).toContain('swap-failed')
    bench.tell(trained(10, quick.msPerRound))
    expect(bench.peer.view.stage).toBe('training')
  })

  test('that heard nothing for eleven seconds pulls, and for no more than ten', () => {
    const bench = quickPeer()
    bench.wait(8000)
    bench.tell({ type: 'tick' }, 11_000)
    bench.tell(trained(10, quick.msPerRound))
    expect(bench.peer.view.stage).toBe('joining')
    bench.tell({ type: 'unlinked', peer: 'a' })
    bench.wait(10_500)
    expect(bench.peer.view.stage).toBe('training')
  })
})

test('a newcomer waits for nobody whose card is all that is left of it', () => {
  const bench = newcomer()
  for (const ghost of ['g', 'h']) bench.tell({ type: 'card', card: cardOf(ghost, { steps: 500 }) })
  expect(only(bench.wait(30_000), 'train')).toHaveLength(1)
})

test.each([
  ['is refused', 0],
  ['hangs until it is given up', DIAL_MS],
])(
  'a newcomer whose first dial %s reaches the only peer there is within 15 s',
  (_, failsAfterMs) => {
    const bench = newcomer()
    const effects = [
      ...bench.tell({ type: 'card', card: cardOf('g', { steps: 500 }) }),
      ...bench.wait(1000),
    ]
    expect(only(effects, 'dial')).toHaveLength(1)
    const askedAgain = only(bench.wait(failsAfterMs), 'dial') // joins the dial that hangs
    expect(askedAgain.length).toBeLessThanOrEqual(1)
    bench.tell({ type: 'unreached', peer: 'g' })
    const left = 15_000 - 1000 - failsAfterMs
    expect(only(bench.wait(left), 'dial').length).toBeGreaterThanOrEqual(1)
  },
)

test('who was linked, failed to swap and lost the link dials the only peer there is within 15 s', () => {
  const bench = trainingPeer()
  let failed = 0
  for (let turn = 0; turn < 200 && failed < 6; turn++) {
    const effects = [...bench.endRound(), ...bench.wait(10_000)]
    for (const { nonce } of sent(effects, 'offer')) {
      bench.tell({ type: 'broken', nonce, reason: 'lost' })
      failed++
    }
  }
  expect(failed).toBe(6)
  bench.tell({ type: 'unlinked', peer: 'a' })
  expect(only(bench.wait(15_000), 'dial')).not.toEqual([])
})

test('a newcomer whose dials come to nothing begins at once from its version', () => {
  const bench = newcomer()
  bench.tell({ type: 'card', card: cardOf('g', { steps: 500 }) })
  expect(only(bench.wait(200), 'dial')).toEqual([])
  bench.tell({ type: 'unreached', peer: 'g' })
  expect(only(bench.wait(5000), 'train')).toHaveLength(1)
})

describe('a donor', () => {
  const pull = { from: 'a', what: 'state', codec: 'float32' } as const

  test('sends GRANT, then PARAMS, then closes', () => {
    const bench = trainingPeer()
    const nonce = nonceOf('one')
    const asked = bench.tell({ type: 'pull-asked', ...pull, nonce })
    expect(only(asked, 'give')).toEqual([{ type: 'give', nonce, what: 'state', codec: 'float32' }])
    const gave = bench.tell({
      type: 'gave',
      nonce,
      digest: digestOf('s'),
      bytes: STATE_BYTES,
      steps: 10,
    })
    const said = gave.map((effect) => (effect.type === 'send' ? effect.message.type : effect.type))
    expect(said.slice(0, 4)).toEqual(['grant', 'params', 'close', 'release'])
  })

  test('gives a large state once in 30 seconds', () => {
    const bench = trainingPeer({ stateBytes: 100e6 })
    bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('one') })
    const second = bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('two') }, 29_999)
    expect(sent(second, 'busy')).toMatchObject([{ reason: 'busy' }])
    const third = bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('three') }, 1)
    expect(only(third, 'give')).toHaveLength(1)
  })

  test('gives a small state as often as 100 kB a second allow', () => {
    const bench = trainingPeer({ stateBytes: 400_000 })
    bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('one') })
    const second = bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('two') }, 3999)
    expect(sent(second, 'busy')).toMatchObject([{ reason: 'busy' }])
    const third = bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('three') }, 1)
    expect(only(third, 'give')).toHaveLength(1)
  })

  test('that has not trained has nothing to give', () => {
    const bench = startPeer({ resumed: { steps: 0, rounds: 0, outcomes: [], adopt: false } })
    bench.tell({ type: 'joined' })
    expect(
      sent(bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('one') }), 'busy'),
    ).toHaveLength(1)
  })

  test('serves while it swaps, and one nonce never names both', () => {
    const bench = trainingPeer()
    const { nonce } = sent(bench.endRound(), 'offer')[0]!
    expect(sent(bench.tell({ type: 'pull-asked', ...pull, nonce }), 'busy')).toHaveLength(1)
    const other = bench.tell({ type: 'pull-asked', ...pull, nonce: nonceOf('other') })
    expect(only(other, 'give')).toHaveLength(1)
  })
})

describe('a rule that pulls', () => {
  const options = { meets: 'pull', pullFrom: 2 } as const

  /** Two copies asked for at the end of a round. */
  function asking() {
    const bench = trainingPeer(options, ['a', 'b', 'c'])
    const pulls = sent(bench.endRound(), 'pull')
    return { bench, pulls }
  }

  test('asks k random neighbours for a copy and settles them together', () => {
    const { bench, pulls } = asking()
    expect(pulls).toMatchObject([{ what: 'copy' }, { what: 'copy' }])
    const settle = pulls.map(({ nonce }) =>
      only(
        bench.tell({ type: 'received', nonce, digest: digestOf('c'), bytes: COPY_BYTES }),
        'settle',
      ),
    )
    const received = pulls.map(({ nonce }) => nonce)
    expect(settle[0]).toEqual([])
    expect(settle[1]).toMatchObject([{ role: 'puller', codec: 'int8', received }])
    const { nonce } = settle[1]![0]!
    const settled = bench.tell({ type: 'settled', nonce, distance: 1 })
    expect(only(settled, 'release').map((effect) => effect.nonce)).toEqual(received)
    expect(bench.peer.view.swaps).toBe(2)
  })

  test('asks for int8 where one of those it asks cannot read its codec', () => {
    const bench = trainingPeer({ ...options, codec: 'float32' }, [])
    for (const peer of ['a', 'b']) bench.meet(peer, { codecs: ['float32', 'int8'] })
    const pulls = sent(bench.endRound(), 'pull')
    expect(pulls.map(({ codec }) => codec)).toEqual(['float32', 'float32'])
    const { to: from, nonce } = pulls[0]!
    bench.tell({ type: 'declined', from, nonce, reason: 'unknown-codec' })
    bench.tell({ type: 'declined', from: pulls[1]!.to, nonce: pulls[1]!.nonce, reason: 'budget' })
    const again = sent(bench.endRound(), 'pull')
    expect(again.map(({ codec }) => codec)).toEqual(['int8', 'int8'])
    const received = again.map((pull) => pull.nonce)
    const effects = received.flatMap((one) =>
      bench.tell({ type: 'received', nonce: one, digest: digestOf('c'), bytes: COPY_BYTES }),
    )
    expect(only(effects, 'settle')).toMatchObject([{ codec: 'int8', received }])
  })

  test('settles with what came when the others decline, break or are late', () => {
    for (const how of ['declined', 'broken', 'late'] as const) {
      const { bench, pulls } = asking()
      const [first, second] = pulls
      const copy = { nonce: first!.nonce, digest: digestOf('c'), bytes: COPY_BYTES }
      bench.tell({ type: 'received', ...copy })
      const { to: from, nonce } = second!
      const reason = 'busy' as const
      const effects =
        how === 'late' ? bench.wait(6000) : bench.tell({ type: how, from, nonce, reason })
      expect(only(effects, 'settle')).toMatchObject([{ received: [first!.nonce] }])
    }
  })

  test('trains on when no copy came', () => {
    const { bench, pulls } = asking()
    for (const { to, nonce } of pulls)
      bench.tell({ type: 'declined', from: to, nonce, reason: 'budget' })
    expect(sent(bench.endRound(), 'pull')).toHaveLength(2)
  })

  test('serves at most 2 k copies a round, of any size at any pace', () => {
    const { bench } = asking()
    const ask = (name: string) =>
      bench.tell({
        type: 'pull-asked',
        from: 'a',
        nonce: nonceOf(name),
        what: 'copy',
        codec: 'int8',
      })
    const given = ['1', '2', '3', '4', '5'].map((name) => only(ask(name), 'give').length)
    expect(given).toEqual([1, 1, 1, 1, 0])
    expect(sent(ask('6'), 'busy')).toMatchObject([{ reason: 'budget' }])
    bench.endRound()
    expect(only(ask('7'), 'give')).toHaveLength(1)
  })

  test('refuses swaps', () => {
    const { bench } = asking()
    const offer = { from: 'a', nonce: nonceOf('one'), codec: 'int8', steps: 1 } as const
    expect(sent(bench.tell({ type: 'offered', ...offer }), 'busy')).toMatchObject([
      { reason: 'no-swap' },
    ])
  })

  test('plans the next deadlines from what pulls took, not from what was planned', () => {
    const bench = trainingPeer({ ...options, copyBytes: 100_000_000 }, ['a', 'b'])
    for (let round = 0; round < 5; round++) {
      const pulls = sent(bench.endRound(), 'pull')
      bench.wait(30_000)
      const effects = pulls.flatMap(({ nonce }) =>
        bench.tell({ type: 'received', nonce, digest: digestOf('c'), bytes: COPY_BYTES }),
      )
      const [settle] = only(effects, 'settle')
      expect(settle?.received).toHaveLength(2)
      bench.tell({ type: 'settled', nonce: settle!.nonce, distance: 1 })
    }
  })
})
