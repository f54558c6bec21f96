import { describe, expect, test } from 'vitest'
import type {
  LinkedPeer,
  ListedModel,
  ModelList,
  NetworkView,
  OpenVersion,
  RunView,
} from '../../browser/services.ts'
import {
  type Action,
  type AppState,
  countsOf,
  doublesOf,
  examplesOf,
  imbalanceOf,
  initialState,
  isInBar,
  isLive,
  isPartial,
  isSoonMeasured,
  latest,
  lineageOf,
  listed,
  newerOf,
  type Part,
  peersOf,
  phaseText,
  reduce,
  rolesOf,
  sizeOfWork,
  skipsOf,
  someOf,
  topOf,
  whyAlone,
  workOf,
  wouldLose,
} from '../../browser/state.ts'
import type { Examples } from '../../protocol/ports/examples.ts'
import { phaseReport, type Report } from '../../protocol/report.ts'
import { digits } from './manifests.ts'

const genesis = 'bafygenesis'
const version = { cid: 'bafyversion', genesis, manifest: digits } as OpenVersion
const first = initialState('', {
  theme: 'auto',
  rounds: 0,
  intensity: 1,
  megabytes: 0,
  shortcuts: true,
})
const after = (...actions: Action[]) => actions.reduce(reduce, first)
const reports = (...all: Report[]): Action[] =>
  all.map((report, i) => ({ type: 'reported', report, at: 1000 * i }))
const started: Action = { type: 'started', version, examples: 4, resumes: false }
const joined: Action = { type: 'joined', view: {} as RunView }
const fault = {
  ...({ kind: 'network', type: 'unreachable', message: 'nobody answered', hint: 'wait' } as const),
}

const part = (labels: number[]): Examples => ({
  size: labels.length,
  width: 2,
  inputs: Uint8Array.from({ length: 2 * labels.length }, (_, i) => i),
  labels: Uint16Array.from(labels),
})
const read = (labels: number[]): Action => ({
  type: 'read',
  genesis,
  part: {
    source: 'imagefolder',
    name: 'mine/',
    examples: part(labels),
    skips: { list: [{ item: 'a', reason: 'b' }], count: 3 },
  },
})
const drawn = (label: number): Action => ({
  type: 'drawn',
  genesis,
  drawing: { label, pixels: Uint8Array.of(8, 9) },
})

test('an answer for a model that is no longer asked for changes nothing', () => {
  const state = after(
    { type: 'opening', reference: 'a' },
    { type: 'opening', reference: 'b' },
    { type: 'opened', reference: 'a', version },
    { type: 'openFailed', reference: 'a', fault },
  )
  expect(state.opened).toEqual({ type: 'fetching', reference: 'b', progress: undefined })
})

const all = { query: '', task: '' }
const listOf = (change: Partial<ModelList> = {}): ModelList => ({
  ...{ models: [], listed: 50, total: 50, asked: all, answered: 2, at: 1 },
  ...change,
})

test('a search asks registries where the list is a part, or answers another question', () => {
  const digits = { query: 'digits', task: '' }
  expect(isPartial(listOf(), digits)).toBe(false)
  expect(isPartial(listOf({ total: 60 }), digits)).toBe(true)
  expect(isPartial(listOf({ total: 60 }), all)).toBe(false)
  expect(isPartial(listOf({ asked: digits }), all)).toBe(true)
  expect(isPartial(listOf({ asked: digits, total: 60 }), digits)).toBe(false)
})

test('a list that cannot be refreshed stays on the screen beside its fault', () => {
  const list = listOf()
  const state = after({ type: 'listed', list }, { type: 'listing' }, { type: 'listFailed', fault })
  expect(state.models).toEqual({ type: 'failed', list, fault })
})

test('drawings and files make one set of examples, with every label counted', () => {
  const work = workOf(after(read([1, 1, 3]), drawn(0), read([2])), genesis)
  expect(sizeOfWork(work)).toBe(5)
  expect(countsOf(work, digits.output.labels)).toEqual([1, 2, 1, 1])
  const examples = examplesOf(work, 2)
  expect([...examples.labels]).toEqual([1, 1, 3, 2, 0])
  expect([...examples.inputs]).toEqual([0, 1, 2, 3, 4, 5, 0, 1, 8, 9])
  expect(skipsOf(work).count).toBe(6)
})

test('an example that came before is counted as a double, a drawing too', () => {
  const same = workOf(after(read([1, 1, 3]), read([2]), drawn(0), drawn(0)), genesis)
  expect(doublesOf(same)).toBe(2) // the row of the second file, and the second drawing
  expect(doublesOf(workOf(after(read([1, 2, 3])), genesis))).toBe(0)
})

test('doubles among many pictures are found without hashing those again at each drawing', () => {
  const [size, width] = [200, 16]
  const inputs = new Uint8Array(size * width)
  for (let row = 0; row < size; row++) new DataView(inputs.buffer).setUint32(row * width, row >> 1)
  let reads = 0
  const counted = Object.assign(inputs, {
    subarray(from: number, to: number) {
      reads++
      return Uint8Array.prototype.subarray.call(inputs, from, to)
    },
  })
  const examples = { size, width, inputs: counted, labels: new Uint16Array(size) }
  const parts: Part[] = [
    { id: 1, source: 'csv', name: '', examples, skips: { list: [], count: 0 } },
  ]
  expect(doublesOf({ drawings: [], parts })).toBe(size / 2)
  const before = reads
  const drawing = { label: 0, pixels: new Uint8Array(width).fill(7) }
  expect(doublesOf({ drawings: [drawing, drawing], parts })).toBe(size / 2 + 1)
  expect(before).toBe(size)
  expect(reads).toBe(before)
})

test('undo takes the last drawing, remove one part, and a fault loses nothing', () => {
  const state = after(
    drawn(1),
    drawn(2),
    read([0]),
    { type: 'undrawn', genesis },
    { type: 'reading', genesis, what: 'more' },
    { type: 'readFailed', genesis, fault },
  )
  const work = workOf(state, genesis)
  expect(work.drawings.map(({ label }) => label)).toEqual([1])
  expect(work.parts).toHaveLength(1)
  expect(work.fault).toEqual(fault)
  expect(work.reading).toBeUndefined()
  const removed = reduce(state, { type: 'removed', genesis, part: work.parts[0]!.id })
  expect(sizeOfWork(workOf(removed, genesis))).toBe(1)
})

test('what belongs to one model is not seen by another', () => {
  expect(sizeOfWork(workOf(after(drawn(1)), 'bafyother'))).toBe(0)
})

test('a label with none, and one with few beside the rest, are told', () => {
  expect(imbalanceOf([10, 0, 12, 2])).toEqual({ missing: [1], few: [3] })
  expect(imbalanceOf([0, 0])).toEqual({ missing: [0, 1], few: [] })
})

test('a run adds up what its reports say', () => {
  const swap = { ev: 'swap', path: 'webrtc', distance: 0.1 } as const
  const { run } = after(
    started,
    joined,
    ...reports(
      { ev: 'phase', phase: 'training', text: '' },
      { ev: 'peers', count: 2, direct: 1 },
      { ev: 'round', round: 1, steps: 10, loss: 2, samples: 80 },
      { ev: 'eval', round: 1, at: 'trained', metrics: { accuracy: 0.5, loss: 2 }, examples: 9 },
      { ...swap, round: 1, with: 'ana', bytesUp: 100, bytesDown: 90 },
      { ev: 'round', round: 2, steps: 20, loss: 1, samples: 90 },
      { ev: 'eval', round: 1, at: 'averaged', metrics: { accuracy: 0.6, loss: 1.9 }, examples: 9 },
      { ...swap, round: 2, with: 'ana', bytesUp: 100, bytesDown: 90 },
      { ev: 'swap-failed', round: 2, with: 'bob', reason: 'no answer' },
    ),
  )
  expect(run).toMatchObject({
    type: 'running',
    phase: 'training',
    count: 2,
    round: 2,
    samples: 170,
    swaps: 2,
    bytesUp: 200,
    bytesDown: 180,
    points: [
      { round: 1, loss: 2, trained: { accuracy: 0.5 }, averaged: { accuracy: 0.6 } },
      { round: 2, loss: 1 },
    ],
  })
  expect(run!.peers['ana']).toMatchObject({ swaps: 2, bytesUp: 200, lastRound: 2, lastAt: 7000 })
  expect(run!.peers['bob']).toMatchObject({ swaps: 0, failure: 'no answer' })
  expect(latest(run!.points, 'averaged')?.accuracy).toBe(0.6)
})

test('what was kept comes before what was brought since, each under an id of its own', () => {
  const kept = after(read([0]), read([1])).works[genesis]!
  const state = after(read([2]), { type: 'restored', genesis, drawings: [], parts: kept.parts })
  const { parts, keep } = workOf(state, genesis)
  expect(keep).toBe(true)
  expect(parts.map(({ id }) => id)).toEqual([1, 2, 3])
  expect(parts.map(({ examples }) => [...examples.labels])).toEqual([[0], [1], [2]])
})

test('a run that computes features says how far it is, until it has begun', () => {
  const checking = after(started, {
    type: 'preparing',
    progress: { of: 'device', done: 1, total: 3 },
  })
  expect(phaseText(checking.run!)).toBe('Checking what this device can do: 1 of 3 trial steps')
  const preparing = reduce(checking, {
    type: 'preparing',
    progress: { of: 'data', done: 1750, total: 6000 },
  })
  expect(phaseText(preparing.run!)).toBe('Preparing the data: 1,750 of 6,000 examples')
  const begun = [joined, ...reports(phaseReport('training'))].reduce(reduce, preparing)
  expect(phaseText(begun.run!)).toBe('Training with the swarm')
})

test('a newcomer that fetches the state of the swarm says so', () => {
  const pulled = (done: number) =>
    reports({ ev: 'progress', of: 'swap', with: 'peer', done, total: 100 })
  const fetching = after(started, joined, ...reports(phaseReport('connecting')), ...pulled(40))
  expect(phaseText(fetching.run!)).toBe('Taking over what the swarm has learned so far')
  expect(phaseText(pulled(100).reduce(reduce, fetching).run!)).toBe('Looking for peers')
})

describe('what takes long in a run', () => {
  const far = (of: 'round' | 'evaluation' | 'swap', done: number, total: number): Report => ({
    ...{ ev: 'progress', of, done, total },
    ...(of === 'swap' && { with: 'ana' }),
  })
  const round: Report = { ev: 'round', round: 1, steps: 40, loss: 1, samples: 5 }
  const measured: Report = {
    ...({ ev: 'eval', round: 1, at: 'trained', examples: 9 } as const),
    metrics: { accuracy: 0.5, loss: 1 },
  }
  const runOf = (...all: Report[]) => after(started, joined, ...reports(...all)).run!
  const progressOf = (...all: Report[]) => runOf(...all).progress

  test('is a round: its bar keeps its place in the next, until one is short', () => {
    expect(progressOf(far('round', 12, 40))).toEqual({ of: 'round', done: 12, total: 40 })
    const next = { of: 'round', done: 0, total: 40 }
    expect(progressOf(far('round', 12, 40), round)).toEqual(next)
    expect(progressOf(far('round', 12, 40), round, far('evaluation', 250, 900), measured)).toEqual(
      next,
    )
    expect(progressOf(far('round', 12, 40), round, round)).toBeUndefined()
    expect(progressOf(far('round', 12, 40), phaseReport('paused'))).toBeUndefined()
    expect(progressOf(round, measured)).toBeUndefined()
  })

  test('is a swap, until it is over in whichever way', () => {
    const transferOf = (...all: Report[]) => runOf(far('swap', 10, 80), ...all).transfer
    expect(transferOf(far('round', 1, 9))).toEqual({ with: 'ana', done: 10, total: 80 })
    expect(transferOf(far('swap', 30, 30))).toBeUndefined()
    expect(transferOf({ ev: 'swap-failed', round: 1, with: 'ana', reason: 'gone' })).toBeUndefined()
    const swap = { path: 'webrtc', bytesUp: 40, bytesDown: 40, distance: 1 } as const
    expect(transferOf({ ev: 'swap', round: 1, with: 'ana', ...swap })).toBeUndefined()
  })
})

test('a model is measured unasked where a step and its params are small', () => {
  const model = (multiplyAdds: number, bytes: number) =>
    isSoonMeasured({
      ...version,
      demand: { memoryBytes: 0, multiplyAdds },
      params: new Uint8Array(bytes),
    })
  // Of the digits in batches of 64, and of a model of 8 million params.
  expect(model(3 * 64 * 50_816, 203_560)).toBe(true)
  expect(model(2 ** 28, 203_560)).toBe(false)
  expect(model(2 ** 20, 32_000_000)).toBe(false)
})

test('a run that ends keeps its figures until it is dismissed', () => {
  const state = after(
    started,
    joined,
    ...reports({ ev: 'round', round: 7, steps: 70, loss: 1, samples: 5 }),
    { type: 'ended', fault: undefined },
  )
  expect(isLive(state.run)).toBe(false)
  expect(state.run).toMatchObject({ type: 'ended', phase: 'stopped', round: 7 })
  expect(reduce(state, { type: 'dismissed' }).run).toBeUndefined()
})

test('a run that is going cannot be dismissed, and a fault ends it with its sentence', () => {
  expect(after(started, { type: 'dismissed' }).run).toBeDefined()
  expect(after(started, { type: 'ended', fault }).run).toMatchObject({ phase: 'failed', fault })
})

test('a run is in the bar while it goes on, and what ended it until that is dismissed', () => {
  expect(isInBar(after(started).run)).toBe(true)
  expect(isInBar(after(started, { type: 'ended', fault: undefined }).run)).toBe(false)
  const failed = after(started, { type: 'ended', fault })
  expect(isInBar(failed.run)).toBe(true)
  expect(isInBar(reduce(failed, { type: 'dismissed' }).run)).toBe(false)
})

test('a finish asked for before the swarm is joined is not forgotten', () => {
  expect(after(started, { type: 'ending' }, joined).run?.type).toBe('ending')
})

test('one row a peer of this run, who swapped last first; who is only linked has none', () => {
  const state: AppState = {
    ...after(
      started,
      ...reports(
        { ev: 'swap-failed', round: 1, with: 'bob', reason: 'busy' },
        { ev: 'swap-failed', round: 1, with: 'dan', reason: 'busy' },
        {
          ev: 'swap',
          round: 1,
          with: 'ana',
          path: 'ws',
          bytesUp: 1,
          bytesDown: 1,
          distance: 0,
        },
      ),
    ),
    network: {
      ...first.network,
      peers: [
        { peer: 'cia', path: 'webrtc', rttMs: 9, roles: [] },
        { peer: 'ana', path: 'webrtc-direct', rttMs: 5, roles: ['lists'] },
        { peer: 'dan', path: 'ws', rttMs: 7, roles: ['introduces'] },
      ],
    },
  }
  expect(peersOf(state).map(({ peer, path, rttMs }) => [peer, path, rttMs])).toEqual([
    ['ana', 'webrtc-direct', 5],
    ['bob', undefined, undefined],
    ['dan', 'ws', 7],
  ])
  expect(state.network.peers.map((peer) => rolesOf(state, peer))).toEqual([
    [],
    ['lists', 'trains'],
    ['introduces', 'trains'],
  ])
  const gone = { ...state, network: first.network }
  expect(peersOf(gone).map(({ path }) => path)).toEqual(['ws', undefined, undefined])
})

test('models are found by every word, and sorted by peers, freshness or name', () => {
  const model = (title: string, peers: number, issuedAt: number, tags: string[]) =>
    ({ title, name: title, task: 't', version: '', tags, labels: [], peers, issuedAt }) as never
  const models: ListedModel[] = [
    model('Birds', 1, 30, ['song']),
    model('Digits', 5, 10, ['mnist']),
    model('Alphabet', 0, 20, ['mnist', 'letters']),
  ]
  const titles = (query: string, sort: 'peers' | 'fresh' | 'name', task = '') =>
    listed(models, { query, sort, task }).map(({ title }) => title)
  expect(titles('', 'peers')).toEqual(['Digits', 'Birds', 'Alphabet'])
  expect(titles('', 'fresh')).toEqual(['Birds', 'Alphabet', 'Digits'])
  expect(titles('', 'name')).toEqual(['Alphabet', 'Birds', 'Digits'])
  expect(titles('MNIST let', 'name')).toEqual(['Alphabet'])
  expect(titles('', 'name', 'other')).toEqual([])
})

test('a preview shows the newest drawings and rows from every part', () => {
  const work = workOf(after(read([1, 2, 3, 0]), read([3]), drawn(0), drawn(1)), genesis)
  expect(someOf(work, 4).map(({ label }) => label)).toEqual([1, 0, 1, 3])
})

test('what stands on one pad is kept beside the other, and is nothing to train on', () => {
  const stroke = [{ x: 0.1, y: 0.2 }]
  const sketched = (pad: 'teach' | 'test', strokes: (typeof stroke)[]): Action => ({
    ...{ type: 'sketched', genesis, pad, strokes },
  })
  const both = after(sketched('teach', [stroke]), sketched('test', [stroke, stroke]))
  expect(workOf(both, genesis).sketches).toEqual({ teach: [stroke], test: [stroke, stroke] })
  const { sketches } = workOf(reduce(both, sketched('teach', [])), genesis)
  expect(sketches).toEqual({ teach: [], test: [stroke, stroke] })
  expect(sizeOfWork(workOf(both, genesis))).toBe(0)
  expect(wouldLose(both)).toBe(false)
})

test('a preview of rows whose labels take turns, or come one after the other, shows many of them', () => {
  const many = (labels: number[]) =>
    new Set(someOf(workOf(after(read(labels)), genesis), 10).map(({ label }) => label)).size
  const rows = [...Array(500).keys()]
  expect(many(rows.map((row) => row % 10))).toBe(10)
  expect(many(rows.map((row) => Math.floor(row / 50)))).toBe(10)
  expect(someOf(workOf(after(read([0, 1, 2])), genesis), 10)).toHaveLength(3)
})

test('the likeliest come first', () => {
  expect(topOf([0.1, 0.7, 0.2], 2)).toEqual([1, 2])
})

test('a run that may swap no more today says so, and no longer that nobody is here', () => {
  const alone = after(started, joined, ...reports(phaseReport('training-alone')))
  expect(phaseText(alone.run!)).toMatch(/nobody else is here/)
  const limited = reduce(alone, { type: 'metered', today: 5, limited: true })
  expect(phaseText(limited.run!)).toMatch(/limit/)
  expect(phaseText(reduce(limited, reports(phaseReport('paused'))[0]!).run!)).toBe('Paused')
})

test('who trains alone among others does not say that nobody is here', () => {
  const known = (count: number) =>
    after(
      started,
      joined,
      ...reports(phaseReport('training-alone'), { ev: 'peers', count, direct: 0 }),
    )
  expect(phaseText(known(2).run!)).toMatch(/2 others are known/)
  expect(phaseText(known(0).run!)).toMatch(/nobody else is here/)
})

/** In a group, `after` reads as a hook. */
const stateOf = after

describe('why a run is alone', () => {
  const alone = [started, joined, ...reports(phaseReport('training-alone'))]
  const ws: LinkedPeer = { peer: 'node', path: 'ws', rttMs: 3, roles: [] }
  const page: LinkedPeer = { peer: 'page', path: 'webrtc', rttMs: 3, roles: [] }
  const why = (
    network: Partial<NetworkView>,
    { webRTC = true, count = 0, more = [] as Action[] } = {},
  ) => {
    const view = { ...first.network, phase: 'online' as const, ...network }
    const known = reports({ ev: 'peers', count, direct: 0 })
    const lonely: Action = { type: 'lonely' }
    const told: Action = { type: 'networked', network: view }
    return whyAlone(stateOf(...alone, ...known, lonely, told, ...more), webRTC)
  }

  test('is the browser, WebRTC, the network or nobody, whichever explains it', () => {
    expect(why({ isOnline: false, peers: [ws] })).toBe('offline')
    expect(why({ peers: [] }, { webRTC: false })).toBe('noWebRTC')
    expect(why({ peers: [ws] }, { webRTC: false, count: 2 })).toBe('noWebRTC')
    expect(why({ peers: [ws] }, { webRTC: false })).toBe('nobody')
    expect(why({ peers: [] })).toBe('unlinked')
    expect(why({ peers: [page] }, { count: 2 })).toBe('apart')
    expect(why({ peers: [ws, page] })).toBe('nobody')
  })

  test('is told only after a while, and no longer once somebody swaps or the day is spent', () => {
    expect(whyAlone(stateOf(...alone), true)).toBeUndefined()
    const later = (...actions: Action[]) => why({ peers: [ws] }, { more: actions })
    expect(later(...reports(phaseReport('offline-training')))).toBe('nobody')
    expect(
      later(...reports(phaseReport('training'), phaseReport('training-alone'))),
    ).toBeUndefined()
    expect(later({ type: 'metered', today: 9, limited: true })).toBeUndefined()
    expect(later({ type: 'ended', fault: undefined })).toBeUndefined()
  })
})

test('a listing names a newer version, unless it is this one or one that this came from', () => {
  const listing = { genesis, version: 'bafynewest', manifestVersion: '9.0.0' } as ListedModel
  expect(newerOf(version, [listing])).toBe(listing)
  expect(newerOf(version, [])).toBeUndefined()
  expect(newerOf(version, [{ ...listing, version: version.cid }])).toBeUndefined()
  expect(newerOf(version, [{ ...listing, genesis: 'bafyother' }])).toBeUndefined()
  const later = { ...version, manifest: { ...digits, parents: ['bafynewest'] } }
  expect(newerOf(later, [listing])).toBeUndefined()
})

test('a lineage has each version once, newest first, with its number and accuracy where they are known', () => {
  const here = { ...digits, version: '1.3.0', parents: ['bafyparent'], metrics: { accuracy: 0.9 } }
  const opened = { ...version, manifest: here as OpenVersion['manifest'] }
  const listing = { genesis, version: 'bafynewest', manifestVersion: '2.0.0' } as ListedModel
  const known = lineageOf(opened, [listing])
  expect(known.map(({ cid, number }) => [cid, number])).toEqual([
    ['bafynewest', '2.0.0'],
    [version.cid, '1.3.0'],
    ['bafyparent', undefined],
    [genesis, undefined],
  ])
  const traced = lineageOf(
    opened,
    [listing],
    [
      { cid: 'bafyparent', number: '1.2.0', accuracy: 0.8 },
      { cid: 'bafybefore', number: '1.1.0', accuracy: undefined },
      { cid: genesis, number: '1.0.0', accuracy: 0.5 },
    ],
  )
  expect(traced.map(({ roles }) => roles)).toEqual([
    ...[['newest'], ['here'], ['parent'], ['ancestor'], ['genesis']],
  ])
  expect(traced.map(({ accuracy }) => accuracy)).toEqual([undefined, 0.9, 0.8, undefined, 0.5])
  expect(traced.at(-1)!.number).toBe('1.0.0')
})
