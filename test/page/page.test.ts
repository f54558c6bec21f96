import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { single } from '../../browser/data.ts'
import { createPage, type Page } from '../../browser/page.ts'
import type {
  KeptRun,
  ListedModel,
  MeasureOptions,
  ModelList,
  NetworkView,
  OpenVersion,
  Run,
  Services,
  TrainOptions,
} from '../../browser/services.ts'
import {
  costOf,
  isAnew,
  phaseText,
  sizeOfWork,
  useOf,
  workOf,
  wouldLose,
} from '../../browser/state.ts'
import { text } from '../../browser/text.ts'
import { Fault } from '../../protocol/errors.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { type Phase, phaseReport, type Report } from '../../protocol/report.ts'
import { digits } from './manifests.ts'

const version = { cid: 'bafyversion', genesis: 'bafygenesis', manifest: digits } as OpenVersion
const settings = { theme: 'auto', rounds: 0, intensity: 1, megabytes: 0, shortcuts: true } as const
const fault = () =>
  new Fault({ kind: 'network', type: 'unreachable', message: 'nobody answered', hint: 'wait' })
const drawing = { label: 1, pixels: new Uint8Array(784) }
const example = single(new Uint8Array(784).fill(255))

/** A page whose services are these, and refuse the rest. */
function pageWith(some: Partial<Services>): Page {
  const services = { onNetwork: () => () => {}, runs: async () => [], ...some } as Services
  return createPage(Promise.resolve(services), '#/', settings)
}

const all = { query: '', task: '' }
const listOf = (answered: number, asked = all): ModelList => {
  return { models: [], listed: 0, total: 0, asked, answered, at: 0 }
}

/** A run that says what it is told to say, and ends when left or finished. */
function runOf() {
  const waiting: Report[] = []
  const asked: string[] = []
  let wake = () => {}
  let isOver = false
  const end = (how: string) => {
    asked.push(how)
    isOver = true
    wake()
  }
  async function* reports() {
    for (;;) {
      while (waiting.length > 0) yield waiting.shift()!
      if (isOver) return
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  const run = {
    reports: reports(),
    view: {},
    pause: () => asked.push('pause'),
    resume: () => asked.push('resume'),
    finish: () => end('finish'),
    leave: async () => end('leave'),
    traffic: { up: 0, down: 0 },
    allowSwaps: (allowed: boolean) => asked.push(allowed ? 'swap' : 'swap no more'),
    setPace: (share: number) => asked.push(`pace ${share}`),
    params: async () => Uint8Array.of(7),
    predict: async () => Float32Array.of(1),
  } as unknown as Run
  const say = (report: Report) => {
    waiting.push(report)
    wake()
  }
  return { run, asked, say }
}

test('a list that fails says so, and one that comes later is shown', async () => {
  let works = false
  const list = listOf(1)
  const page = pageWith({
    listModels: async () => {
      if (!works) throw fault()
      return list
    },
  })
  await page.listModels()
  expect(page.state.value.models).toMatchObject({ type: 'failed', fault: { type: 'unreachable' } })
  works = true
  await page.listModels()
  expect(page.state.value.models).toEqual({ type: 'listed', list, fault: undefined })
})

test('a search that is typed on is answered by its last question alone', async () => {
  const answers: (() => void)[] = []
  const page = pageWith({
    listModels: (asked, signal) =>
      new Promise((resolve, reject) => {
        answers.push(() => (asked.query === 'fail' ? reject(fault()) : resolve(listOf(1, asked))))
        signal!.addEventListener('abort', () => reject(fault()))
      }),
  })
  const asked = ['d', 'fail', 'digits'].map((query) => page.listModels({ query, task: '' }))
  await expect.poll(() => answers.length).toBe(3)
  for (const answer of answers.toReversed()) answer()
  await Promise.all(asked)
  expect(page.state.value.models).toMatchObject({
    ...{ type: 'listed', fault: undefined, list: { asked: { query: 'digits' } } },
  })
})

test('models are asked for again when somebody who lists them comes into reach', async () => {
  let tell: (network: NetworkView) => void = () => {}
  let answered = 0
  const page = pageWith({
    onNetwork: (listener) => {
      tell = listener
      return () => {}
    },
    listModels: async () => listOf(answered),
  })
  await page.listModels()
  answered = 2
  tell({ ...page.state.value.network, registries: 2 })
  await expect.poll(() => page.state.value.models.list?.answered).toBe(2)
})

test('a network that cannot start is a fault in the state', async () => {
  const page = createPage(Promise.reject(fault()), '#/', settings)
  await expect.poll(() => page.state.value.network.phase).toBe('failed')
  await page.listModels()
  expect(page.state.value.models.fault?.type).toBe('unreachable')
})

test('opening another model lets go of the first', async () => {
  const signals: AbortSignal[] = []
  const page = pageWith({
    openVersion: (_, __, { signal }) => {
      signals.push(signal!)
      return new Promise(() => {})
    },
  })
  void page.open('a', [])
  await expect.poll(() => signals.length).toBe(1)
  void page.open('b', [])
  expect(signals[0]!.aborted).toBe(true)
  expect(page.state.value.opened).toMatchObject({ type: 'fetching', reference: 'b' })
})

test('a link that names other peers is another try, unless the model is there', async () => {
  const tries: (readonly string[])[] = []
  let open: (version: OpenVersion) => void = () => {}
  const page = pageWith({
    openVersion: (_, via) => {
      tries.push(via)
      return new Promise((resolve) => {
        open = resolve
      })
    },
  })
  void page.open('a', ['/ip4/1.2.3.4/tcp/1/ws'])
  await expect.poll(() => tries.length).toBe(1)
  void page.open('a', ['/ip4/1.2.3.4/tcp/1/ws'])
  void page.open('a', [])
  const second = page.open('a', ['/ip4/5.6.7.8/tcp/1/ws'])
  await expect.poll(() => tries.length).toBe(2)
  open(version)
  await second
  await page.open('a', ['/ip4/9.9.9.9/tcp/1/ws'])
  expect(page.state.value.opened.type).toBe('open')
  expect(tries).toEqual([['/ip4/1.2.3.4/tcp/1/ws'], ['/ip4/5.6.7.8/tcp/1/ws']])
})

test('a run shows its reports, is stopped, and its params can be taken and tried afterwards', async () => {
  const { run, say, asked } = runOf()
  const given: number[] = []
  const page = pageWith({
    train: async (_, { examples }) => {
      given.push(examples.size)
      return run
    },
    predictor: async ({ params }) => ({
      predict: async () => Float32Array.of(params?.[0] ?? 0),
      close() {},
    }),
  })
  await page.draw(version, drawing)
  await page.start(version, { resume: true })
  say(phaseReport('training'))
  say({ ev: 'round', round: 3, steps: 30, loss: 1, samples: 9 })
  await expect.poll(() => page.state.value.run?.round).toBe(3)
  await page.stop()
  expect(given).toEqual([1])
  expect(asked).toEqual(['leave'])
  expect(page.state.value.run).toMatchObject({ type: 'ended', phase: 'stopped', round: 3 })
  expect(await page.ownParams(version)).toEqual(Uint8Array.of(7))
  const guess = await page.predict(version, example)
  expect(guess).toMatchObject({
    published: Float32Array.of(0),
    mine: Float32Array.of(7),
    newest: undefined,
  })
})

test('a run ends after as many rounds as the settings say, else the model’s owner', async () => {
  const asked: (number | undefined)[] = []
  const page = pageWith({
    train: async (_, { rounds }) => {
      asked.push(rounds)
      throw fault()
    },
  })
  const { train } = digits
  const stopping = {
    ...version,
    manifest: { ...digits, train: { ...train, stop: { rounds: 40 } } },
  }
  await page.start(version, { resume: false })
  await page.start(stopping, { resume: false })
  page.set({ rounds: 30 })
  await page.start(stopping, { resume: false })
  expect(asked).toEqual([undefined, 40, 30])
})

describe('what training takes here', () => {
  const speed = { backend: 'engine', msPerStep: 2, remarks: [] }
  const shown = (page: Page) => costOf(page.state.value, version.cid)

  test('is measured when asked, kept, and there on the next visit', async () => {
    stubStorage()
    const measure = async (_: OpenVersion, { onProgress }: MeasureOptions) => {
      onProgress({ of: 'device', done: 2, total: 3 })
      expect(shown(page)).toMatchObject({ isMeasuring: true, progress: { done: 2 } })
      return speed
    }
    const page = pageWith({ measure })
    await page.measure(version)
    expect(shown(page)).toMatchObject({ cost: speed, isMeasuring: false, progress: undefined })
    const next = pageWith({ openVersion: async () => version })
    await next.open(version.cid, [])
    expect(shown(next).cost).toEqual(shown(page).cost)
  })

  test('is not known when that fails, and why is said', async () => {
    const page = pageWith({ measure: () => Promise.reject(fault()) })
    await page.measure(version)
    expect(shown(page)).toMatchObject({ cost: undefined, fault: { type: 'unreachable' } })
  })

  test('is no longer measured when somebody leaves, or trains; a run tells it by itself', async () => {
    const signals: AbortSignal[] = []
    const { run } = runOf()
    const page = pageWith({
      measure: (_, { signal }) => {
        signals.push(signal)
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(fault())))
      },
      train: async () => ({ ...run, view: { ...run.view, ...speed } }),
    })
    const first = page.measure(version)
    await expect.poll(() => signals.length).toBe(1)
    page.stopMeasuring()
    const second = page.measure(version)
    await first
    expect(shown(page)).toMatchObject({ isMeasuring: true, fault: undefined })
    await expect.poll(() => signals.length).toBe(2)
    await page.start(version, { resume: false })
    await second
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true])
    expect(shown(page)).toMatchObject({ isMeasuring: false, fault: undefined, cost: speed })
    await page.measure(version)
    expect(signals).toHaveLength(2)
    await page.stop()
  })
})

/** A browser that keeps what it is told. */
function stubStorage(): void {
  const kept = new Map<string, string>()
  vi.stubGlobal('localStorage', {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
  })
  onTestFinished(() => void vi.unstubAllGlobals())
}

test('what was trained on an earlier visit can be tried and taken, until it is forgotten', async () => {
  const kept = { ...version, title: 'Digits', version: version.cid, rounds: 3, at: 0, bytes: 9 }
  let runs = [kept]
  const page = pageWith({
    runs: async () => runs,
    keptParams: async ({ genesis }) => (genesis === kept.genesis ? Uint8Array.of(5) : undefined),
    forgetRun: async () => void (runs = []),
    predictor: async ({ params }) => ({
      predict: async () => Float32Array.of(params?.[0] ?? 0),
      close() {},
    }),
  })
  const guess = async () => (await page.predict(version, example)).mine
  expect(await page.ownParams(version)).toBeUndefined()
  await page.loadRuns()
  expect(await page.ownParams(version)).toEqual(Uint8Array.of(5))
  expect(await page.ownParams({ ...version, genesis: 'another' })).toBeUndefined()
  expect(await guess()).toEqual(Float32Array.of(5))
  await page.forgetRun(version.genesis)
  expect(await page.ownParams(version)).toBeUndefined()
  expect(await guess()).toBeUndefined()
})

test('the version that trains here is not freed, and another is, with what trains told to it', async () => {
  const { run } = runOf()
  const freed: unknown[] = []
  const here = { ...version, title: 'Digits', number: '1.0.0', bytes: 9, at: 0, listed: true }
  const page = pageWith({
    train: async () => run,
    versions: async () => [{ ...here, isDamaged: false }],
    freeVersion: async (...asked) => void freed.push(asked),
  })
  await page.loadVersions()
  expect(page.state.value.versions).toHaveLength(1)
  await page.start(version, { resume: false })
  expect(useOf(page.state.value, version.cid)).toBe('trained')
  await page.freeVersion(version.cid)
  expect(page.state.value.versionsFault).toMatchObject({ type: 'trained-now' })
  await page.freeVersion('bafyother')
  expect(page.state.value.versionsFault).toBeUndefined()
  await page.stop()
  await page.freeVersion(version.cid)
  expect(freed).toEqual([
    ['bafyother', version.genesis],
    [version.cid, undefined],
  ])
})

test('what a run that is kept goes on from says so, unless that run cannot be read', async () => {
  const kept = { ...version, title: 'Digits', version: version.cid, rounds: 3, at: 0, bytes: 9 }
  let runs: KeptRun[] = [kept]
  const page = pageWith({ runs: async () => runs })
  await page.loadRuns()
  expect(useOf(page.state.value, version.cid)).toBe('resumed')
  runs = [{ ...kept, damage: 'no header' }]
  await page.loadRuns()
  expect(useOf(page.state.value, version.cid)).toBe('none')
})

test('a self-test tells its lines as they end, one at a time, and why it could not begin', async () => {
  const seen: string[] = []
  let asked = 0
  const page = pageWith({
    async selfTest(tell) {
      asked++
      tell([{ check: 'home', state: 'running' }])
      seen.push(page.state.value.selfTest.type)
      await page.selfTest() // another press meanwhile
      tell([{ check: 'home', state: 'ok', ms: 3 }])
    },
  })
  await page.selfTest()
  expect(page.state.value.selfTest).toEqual({
    ...{ type: 'done', checks: [{ check: 'home', state: 'ok', ms: 3 }] },
  })
  expect([seen, asked]).toEqual([['running'], 1])
  const without = createPage(Promise.reject(fault()), '#/', settings)
  await without.selfTest()
  expect(without.state.value.selfTest).toMatchObject({ type: 'failed', fault: { hint: 'wait' } })
})

test('a kept checkpoint that cannot be read keeps nobody from trying what is published', async () => {
  const kept = { ...version, title: 'Digits', version: version.cid, rounds: 3, at: 0, bytes: 9 }
  const page = pageWith({
    runs: async () => [kept],
    keptParams: () => Promise.reject(fault()),
    predictor: async () => ({ predict: async () => Float32Array.of(3), close() {} }),
  })
  await page.loadRuns()
  const guess = await page.predict(version, example)
  expect(guess).toEqual({ published: Float32Array.of(3), mine: undefined, newest: undefined })
  await expect(page.ownParams(version)).rejects.toThrow('nobody answered')
})

test('a version is traced to where it comes from, as far as somebody has it, and once more when asked', async () => {
  let has = 1
  const ancestor = (i: number) => ({ cid: `bafy${i}`, number: `1.${i}.0`, accuracy: undefined })
  const page = pageWith({
    openVersion: async () => version,
    async *ancestorsOf() {
      for (let i = 3; i > 3 - has; i--) yield ancestor(i)
      if (has < 3) throw fault()
    },
  })
  await page.open(version.cid, [])
  await page.trace(version)
  expect(page.state.value.lineage).toMatchObject({
    ...{ type: 'failed', ancestors: [ancestor(3)], fault: { type: 'unreachable' } },
  })
  has = 3
  await page.trace(version)
  expect(page.state.value.lineage).toEqual({
    ...{ type: 'whole', of: version.cid, ancestors: [3, 2, 1].map(ancestor) },
  })
  await page.open('bafyother', [])
  expect(page.state.value.lineage).toBeUndefined()
})

describe('a newer version', () => {
  const newest = { version: 'bafynewest', manifestVersion: '2.0.0' } as ListedModel
  /** What the inputs' first value was scaled to, and whose params answered. */
  const predictor: Services['predictor'] = async ({ cid }) => ({
    predict: async ([first]) => Float32Array.of(first!, cid === newest.version ? 2 : 1),
    close() {},
  })
  const half = { ...digits, version: '2.0.0', preprocess: [{ op: 'scale', multiply: 1 / 510 }] }
  const opening = (manifest: Partial<Manifest>) =>
    pageWith({
      predictor,
      openVersion: async (cid) =>
        ({ ...version, cid, ...(cid === newest.version && { manifest }) }) as OpenVersion,
    })

  test('answers beside the open one once it is asked for, by its own scaling', async () => {
    const page = opening(half as Manifest)
    await page.open(version.cid, [])
    expect((await page.predict(version, example)).newest).toBeUndefined()
    await page.compare(version, newest)
    expect(page.state.value.compared).toMatchObject({ type: 'ready', number: '2.0.0' })
    expect(await page.predict(version, example)).toEqual({
      published: Float32Array.of(1, 1),
      mine: undefined,
      newest: Float32Array.of(0.5, 2),
    })
    await page.open('bafyother', [])
    expect(page.state.value.compared).toEqual({ type: 'none' })
  })

  test('with other labels is not compared, and says why', async () => {
    const page = opening({ ...half, output: { kind: 'classes', labels: ['a'] } } as Manifest)
    await page.open(version.cid, [])
    await page.compare(version, newest)
    expect(page.state.value.compared).toMatchObject({
      type: 'failed',
      fault: { type: 'not-alike' },
    })
    expect((await page.predict(version, example)).newest).toBeUndefined()
  })
})

test.each([
  ['that cannot be read any more is told to begin anew', false, true],
  ['that is read goes on', true, false],
])('a run from a checkpoint %s', async (_, resumed, anew) => {
  const kept = { ...version, title: 'Digits', version: version.cid, rounds: 3, at: 0, bytes: 9 }
  const page = pageWith({
    runs: async () => [kept],
    train: async () => ({ ...runOf().run, view: { resumed } }) as Run,
  })
  await page.start(version, { resume: true })
  expect(isAnew(page.state.value.run!)).toBe(false) // nothing was known to be kept
  await page.stop()
  await page.loadRuns()
  await page.start(version, { resume: true })
  expect(isAnew(page.state.value.run!)).toBe(anew)
  await page.stop()
})

test('a stop that comes before the swarm is joined leaves it as soon as it is', async () => {
  const { run, asked } = runOf()
  let join: (run: Run) => void = () => {}
  const page = pageWith({
    train: () =>
      new Promise((resolve) => {
        join = resolve
      }),
  })
  const starting = page.start(version, { resume: false })
  await page.stop()
  join(run)
  await starting
  await expect.poll(() => page.state.value.run?.type).toBe('ended')
  expect(asked).toEqual(['leave'])
})

test('a pause of an hour ends by itself, and a finish ends any pause', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  onTestFinished(() => void vi.useRealTimers())
  const HOUR_MS = 3_600_000
  const { run, asked } = runOf()
  const page = pageWith({ train: async () => run })
  await page.start(version, { resume: false })
  page.pause(HOUR_MS)
  expect(page.state.value.run?.pausedUntil).toBe(Date.now() + HOUR_MS)
  vi.advanceTimersByTime(HOUR_MS - 1)
  expect(asked).toEqual(['pause'])
  vi.advanceTimersByTime(1)
  expect(asked).toEqual(['pause', 'resume'])
  expect(page.state.value.run?.pausedUntil).toBeUndefined()
  page.pause(HOUR_MS)
  page.finish()
  await expect.poll(() => page.state.value.run?.type).toBe('ended')
  vi.advanceTimersByTime(HOUR_MS)
  expect(asked).toEqual(['pause', 'resume', 'pause', 'resume', 'finish'])
})

test('a model whose worker died is asked anew by the next try', async () => {
  const closed: number[] = []
  let made = 0
  const page = pageWith({
    predictor: async () => {
      const id = ++made
      return {
        predict: async () => {
          if (id === 1) throw fault()
          return Float32Array.of(id)
        },
        close: () => void closed.push(id),
      }
    },
  })
  const guess = () => page.predict(version, example)
  await expect(guess()).rejects.toThrow('nobody answered')
  expect((await guess()).published).toEqual(Float32Array.of(2))
  expect((await guess()).published).toEqual(Float32Array.of(2))
  expect(closed).toEqual([1])
})

test('a run that cannot start says why, and the drawings are still there', async () => {
  const page = pageWith({
    train: async () => {
      throw fault()
    },
  })
  await page.draw(version, drawing)
  await page.start(version, { resume: false })
  expect(page.state.value.run).toMatchObject({ type: 'ended', phase: 'failed' })
  expect(sizeOfWork(workOf(page.state.value, version.genesis))).toBe(1)
})

test('drawings that nothing can keep are on the page still, it says why, and closing it is asked about', async () => {
  const page = pageWith({}) // here is no IndexedDB
  await page.draw(version, drawing)
  await page.keep(version, true)
  const work = workOf(page.state.value, version.genesis)
  expect(work).toMatchObject({ keep: true, unkept: { kind: 'resource', type: 'no-storage' } })
  expect(work.drawings).toHaveLength(1)
  expect(wouldLose(page.state.value)).toBe(true)
  await page.keep(version, false)
  expect(workOf(page.state.value, version.genesis).unkept).toBeUndefined()
})

test('a run whose checkpoints are not kept goes on from the params in memory', async () => {
  const { run } = runOf()
  const given: (Uint8Array | undefined)[] = []
  const page = pageWith({
    train: async (_, { from, onKept }) => {
      given.push(from)
      onKept?.(fault().detail)
      return given.length === 1 ? run : runOf().run
    },
  })
  await page.start(version, { resume: true })
  expect(wouldLose(page.state.value)).toBe(true)
  await page.stop()
  expect(phaseText(page.state.value.run!)).toBe(text.run.stoppedUnsaved)
  await page.start(version, { resume: true })
  expect(given).toEqual([undefined, Uint8Array.of(7)])
  await page.stop()
})

test('a version without sample data says so', async () => {
  const page = pageWith({ sampleOf: async () => undefined })
  await page.useSample(version)
  expect(workOf(page.state.value, version.genesis).fault?.type).toBe('no-sample')
})

test('a drop that is still looked through says so, and one that cannot be read says why', async () => {
  const page = pageWith({})
  const { promise, reject } = Promise.withResolvers<never>()
  const adding = page.addFiles(version, promise)
  expect(workOf(page.state.value, version.genesis).reading).toBe(text.data.lookingAtFiles)
  reject(fault())
  await adding
  expect(workOf(page.state.value, version.genesis)).toMatchObject({
    ...{ reading: undefined, fault: { type: 'unreachable' } },
  })
})

test('a run starts at the intensity that is set, and follows when it is changed', async () => {
  const { run, asked } = runOf()
  const given: unknown[] = []
  const page = pageWith({
    train: async (_, { pace }) => {
      given.push(pace)
      page.set({ intensity: 0.25 }) // while the swarm is being joined
      return run
    },
  })
  page.set({ intensity: 0.5 })
  await page.start(version, { resume: false })
  page.set({ theme: 'dark' })
  page.set({ intensity: 1 })
  expect(given).toEqual([0.5])
  expect(asked).toEqual(['pace 0.25', 'pace 1'])
  await page.stop()
})

describe('a limit of megabytes a day', () => {
  /** A run that is told the totals of its traffic, on a day whose hours a test turns by hand. */
  async function limited(megabytes: number) {
    vi.useFakeTimers({ toFake: ['Date'], now: new Date(2026, 10, 24, 23, 50) })
    onTestFinished(() => void vi.useRealTimers())
    const { run, say, asked } = runOf()
    const given: unknown[] = []
    const train = async (_: OpenVersion, { swapping }: TrainOptions) => {
      given.push(swapping)
      return run
    }
    const page = pageWith({ train })
    page.set({ megabytes })
    await page.start(version, { resume: false })
    let round = 0
    /** A round ends when so much was sent and received in this run. */
    const spend = async (up: number, down: number) => {
      Object.assign(run.traffic, { up, down })
      say({ ev: 'round', round: ++round, steps: 9, loss: 1, samples: 9 })
      await expect.poll(() => page.state.value.run?.round).toBe(round)
    }
    return { page, asked, given, spend }
  }

  test('ends swaps when it is reached, and the page says so, until the next day', async () => {
    const { page, asked, given, spend } = await limited(2)
    await spend(900_000, 900_000)
    expect(asked).toEqual([])
    await spend(1_000_000, 1_000_000)
    expect(asked).toEqual(['swap no more'])
    expect(page.state.value).toMatchObject({ today: 2_000_000, run: { limited: true } })
    await spend(1_000_000, 1_000_000)
    expect(asked).toEqual(['swap no more'])
    vi.setSystemTime(new Date(2026, 10, 25, 0, 1))
    await spend(1_000_000, 1_000_000)
    expect(asked).toEqual(['swap no more', 'swap'])
    expect(page.state.value).toMatchObject({ today: 0, run: { limited: false } })
    expect(given).toEqual([true])
    await page.stop()
  })

  test('that is raised, or taken away, lets swaps go on at once', async () => {
    const { page, asked, spend } = await limited(1)
    await spend(500_000, 500_000)
    page.set({ megabytes: 2 })
    page.set({ megabytes: 1 })
    page.set({ megabytes: 0 })
    expect(asked).toEqual(['swap no more', 'swap', 'swap no more', 'swap'])
    await page.stop()
  })

  test('holds for the next run of the same day too', async () => {
    const { page, given, spend } = await limited(1)
    await spend(500_000, 500_000)
    await page.stop()
    await page.start(version, { resume: true })
    expect(given).toEqual([true, false])
    expect(page.state.value.run?.limited).toBe(true)
  })
})

test('an owner key is exported, and a file that does not open leaves the key as it was', async () => {
  const page = pageWith({
    owner: async () => 'me',
    exportOwner: async (passphrase) => ({ name: 'key.json', text: passphrase }),
    importOwner: async () => {
      throw fault()
    },
  })
  await page.loadOwner()
  expect(page.state.value.owner.id).toBe('me')
  expect(await page.exportOwner('words')).toEqual({ name: 'key.json', text: 'words' })
  expect(page.state.value.owner).toMatchObject({ id: 'me', done: 'exported', doing: undefined })
  const importing = page.importOwner(new Blob(['{}']), 'other words')
  expect(page.state.value.owner).toMatchObject({ doing: 'import', done: undefined })
  await importing
  expect(page.state.value.owner).toMatchObject({
    ...{ id: 'me', doing: undefined, done: undefined },
    fault: { type: 'unreachable' },
  })
})

test('an imported key is the one that signs from now on', async () => {
  const page = pageWith({ importOwner: async (file) => await file.text() })
  await page.importOwner(new Blob(['other']), 'words')
  expect(page.state.value.owner).toMatchObject({ id: 'other', done: 'imported', fault: undefined })
})

test('a run is lonely after 5 s alone, and company ends that', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const { run, say } = runOf()
  const page = pageWith({ train: async () => run })
  const phase = async (name: Phase) => {
    say(phaseReport(name))
    await expect.poll(() => page.state.value.run?.phase).toBe(name)
  }
  const isLonely = () => page.state.value.run?.lonely
  await page.start(version, { resume: false })
  await phase('training-alone')
  vi.advanceTimersByTime(3000)
  await phase('offline-training')
  vi.advanceTimersByTime(1999)
  expect(isLonely()).toBe(false)
  vi.advanceTimersByTime(1)
  expect(isLonely()).toBe(true)
  await phase('training')
  expect(isLonely()).toBe(false)
  await phase('training-alone')
  vi.advanceTimersByTime(4000)
  await phase('training')
  vi.advanceTimersByTime(60_000)
  await phase('training-alone')
  expect(isLonely()).toBe(false)
  await page.stop()
})
