import { type InjectionKey, inject, type ShallowRef, shallowRef } from 'vue'
import { Fault, faultFrom, invariant } from '../protocol/errors.ts'
import type { Manifest } from '../protocol/manifest.ts'
import type { Examples } from '../protocol/ports/examples.ts'
import { phaseReport } from '../protocol/report.ts'
import { type FoundFile, type ReadOptions, readFiles, scaled, widthOf } from './data.ts'
import {
  type Brought,
  type Change,
  isLocalKept,
  type Keeper,
  keeperOf,
  loadBrought,
  loadCost,
  loadTraffic,
  openForgetting,
  saveCost,
  saveSettings,
  saveTraffic,
} from './keep.ts'
import { countOn, isSpent, type Traffic } from './quota.ts'
import { askForPromise, roomHere } from './room.ts'
import type {
  Ancestor,
  Asked,
  Check,
  ListedModel,
  OpenVersion,
  Predictor,
  Run,
  Services,
  Speed,
} from './services.ts'
import {
  type Action,
  type AppState,
  type Drawing,
  examplesOf,
  initialState,
  isAlone,
  isKept,
  isLive,
  reduce,
  roundsOf,
  type Settings,
  sizeOfWork,
  skipsOf,
  useOf,
  workOf,
} from './state.ts'
import { text } from './text.ts'
import { pageFault } from './words.ts'

/**
 * Where actions meet the world: each deed asks the services for something and dispatches what came of it. Views read
 * `state` and call deeds; a deed never throws, what fails becomes a fault in the state beside the place it belongs to.
 */
export interface Page {
  readonly state: ShallowRef<AppState>
  readonly dispatch: (action: Action) => void
  /** All, or what these filters ask for. */
  listModels(asked?: Asked): Promise<void>
  open(reference: string, via: readonly string[], options?: { again: boolean }): Promise<void>
  join(address: string): Promise<void>
  unjoin(address: string): Promise<void>
  /** Tries out the network and this browser. */
  selfTest(): Promise<void>
  draw(version: OpenVersion, drawing: Drawing): Promise<void>
  undo(version: OpenVersion): Promise<void>
  /** Takes away what came together; `part` is its id. */
  remove(version: OpenVersion, part: number): Promise<void>
  keep(version: OpenVersion, keep: boolean): Promise<void>
  empty(version: OpenVersion): Promise<void>
  restore(version: OpenVersion): Promise<void>
  useSample(version: OpenVersion): Promise<void>
  addFiles(
    version: OpenVersion,
    files: Promise<FoundFile[]> | FoundFile[],
    options?: Pick<ReadOptions, 'label' | 'columns'>,
  ): Promise<void>
  /** Measures what training takes here, unless this page trains; until it is called off, or a run starts. */
  measure(version: OpenVersion): Promise<void>
  stopMeasuring(): void
  start(version: OpenVersion, options: { resume: boolean }): Promise<void>
  /** Without a time: until somebody resumes. */
  pause(ms?: number): void
  resume(): void
  finish(): void
  stop(): Promise<void>
  /** Probabilities of examples as they came, before scaling. */
  predict(version: OpenVersion, examples: Examples): Promise<Predictions>
  /** Looks up where a version comes from, once. */
  trace(version: OpenVersion): Promise<void>
  /** Fetches what is newer of the same model, so that predict() answers by it, too. */
  compare(version: OpenVersion, newest: ListedModel): Promise<void>
  /** What this person trained of a model, now or before: float32 in tensor order. */
  ownParams(version: OpenVersion): Promise<Uint8Array | undefined>
  loadRuns(): Promise<void>
  forgetRun(genesis: string): Promise<void>
  /** What this browser keeps, and the room that it has for it. */
  loadVersions(): Promise<void>
  freeVersion(cid: string): Promise<void>
  /** Asks the browser to keep what is here when room runs short. */
  askForPromise(): Promise<void>
  loadOwner(): Promise<void>
  /** The owner's key as a file to be saved; undefined where that failed. */
  exportOwner(passphrase: string): Promise<{ name: string; text: string } | undefined>
  importOwner(file: Blob, passphrase: string): Promise<void>
  set(settings: Partial<Settings>): void
}

/** Each Float32Array[size × classes]. */
export interface Predictions {
  published: Float32Array
  /** By what this person trained, where that is anything. */
  mine: Float32Array | undefined
  /** By the version that compare() fetched. */
  newest: Float32Array | undefined
}

export const pageKey: InjectionKey<Page> = Symbol('page')

export function usePage(): Page {
  const page = inject(pageKey)
  invariant(page, 'a view stands inside the app')
  return page
}

export function createPage(services: Promise<Services>, hash: string, settings: Settings): Page {
  const state = shallowRef(initialState(hash, settings))
  const dispatch = (action: Action) => {
    state.value = reduce(state.value, action)
  }
  let opening: AbortController | undefined
  let measuring: { cid: string; stop: AbortController } | undefined
  /** The addresses that came with it. */
  let told: readonly string[] = []
  let listing: AbortController | undefined
  let run: Run | undefined
  /** Resolves when the run of now has ended and been told. */
  let following: Promise<void> | undefined
  /** What was asked for while the swarm was still being joined. */
  let wish: 'go' | 'finish' | 'stop' = 'go'
  /** What the last run ended with; the version it belongs to. */
  let own: { genesis: string; params: Uint8Array } | undefined
  /** What was trained on an earlier visit, of the model that was asked for last. */
  let recalled: { genesis: string; params: Uint8Array } | undefined
  let ofRun: OpenVersion | undefined
  /** Sent and received today, and how much of the run's has been counted as such. */
  let traffic: Traffic | undefined
  let counted = 0
  /** What the run was told last. */
  let swapping = true
  let alone: ReturnType<typeof setTimeout> | undefined
  let wake: ReturnType<typeof setTimeout> | undefined
  const predictors = new Map<string, Promise<Predictor>>()
  const keepers = new Map<string, Keeper>()
  /** Resolves when what was kept of a model is back on the page. */
  const restoring = new Map<string, Promise<void>>()
  /** What another tab made this browser forget is on this page alone now: its box says so, and closing it is asked about. */
  const tellForgotten = openForgetting((genesis) => {
    if (workOf(state.value, genesis).keep) dispatch({ type: 'keeping', genesis, keep: false })
  })
  /** Beside the version that is open. */
  let newest: OpenVersion | undefined

  services.then(
    (ready) =>
      ready.onNetwork((network) => {
        const { network: before, models } = state.value
        dispatch({ type: 'networked', network })
        if (network.registries > before.registries && models.type !== 'loading')
          void listModels(models.list?.asked)
      }),
    (error) => dispatch({ type: 'networkFailed', fault: detailOf(error) }),
  )

  const predictorOf = (name: string, version: OpenVersion): Promise<Predictor> => {
    const known = predictors.get(name)
    if (known !== undefined) return known
    const made = services.then((ready) => ready.predictor(version))
    predictors.set(name, made)
    made.catch(() => predictors.delete(name))
    return made
  }

  /** One that fails once, its worker gone, is made anew by the next question. */
  const predictBy = async (
    name: string,
    version: OpenVersion,
    examples: Examples,
  ): Promise<Float32Array> => {
    const predictor = predictorOf(name, version)
    try {
      return await (await predictor).predict(scaled(examples, version.manifest), examples.size)
    } catch (error) {
      forgetPredictors((other) => other === name && predictors.get(name) === predictor)
      throw error
    }
  }

  const mineOf = async (version: OpenVersion, examples: Examples) => {
    if (run && state.value.run?.genesis === version.genesis)
      return run.predict(scaled(examples, version.manifest), examples.size)
    // A checkpoint that cannot be read is no reason to say nothing of what is published.
    const params = await ownOf(version).catch(() => undefined)
    if (!params) return undefined
    return predictBy(`own ${version.cid}`, { ...version, params }, examples)
  }

  const newestOf = async (version: OpenVersion, examples: Examples) => {
    const { compared } = state.value
    if (compared.type !== 'ready' || compared.beside !== version.cid || !newest) return undefined
    try {
      return await predictBy(newest.cid, newest, examples)
    } catch (error) {
      const fault = detailOf(error)
      dispatch({ type: 'comparing', compared: { ...compared, type: 'failed', fault } })
      return undefined
    }
  }

  const forgetPredictors = (wanted: (name: string) => boolean) => {
    for (const [name, predictor] of predictors) {
      if (!wanted(name)) continue
      predictors.delete(name)
      predictor.then((made) => made.close()).catch(() => {})
    }
  }

  const keeperFor = (genesis: string): Keeper => {
    const keeper = keepers.get(genesis) ?? keeperOf(genesis)
    keepers.set(genesis, keeper)
    return keeper
  }

  const onKept = (genesis: string, write: (keeper: Keeper) => Promise<void>) =>
    attempt(
      async () => {
        await write(keeperFor(genesis))
        if (workOf(state.value, genesis).unkept)
          dispatch({ type: 'unkept', genesis, fault: undefined })
      },
      (fault) => ({ type: 'unkept', genesis, fault }),
    )

  /** Keeps a change where a person wants theirs kept; elsewhere what is kept is none of this page's. */
  const save = async (genesis: string, change: Change) => {
    if (!workOf(state.value, genesis).keep) return
    await onKept(genesis, (keeper) => keeper.change(change))
  }

  /** Puts what is kept before what was brought since, and keeps that too. */
  const share = async (genesis: string, kept: Brought) => {
    dispatch({ type: 'restored', genesis, ...kept })
    const { drawings, parts } = workOf(state.value, genesis)
    const added = {
      drawings: drawings.slice(kept.drawings.length),
      parts: parts.slice(kept.parts.length),
    }
    await save(genesis, { added })
  }

  const saveLast = async ({ genesis }: OpenVersion) => {
    const part = workOf(state.value, genesis).parts.at(-1)
    if (part) await save(genesis, { added: { parts: [part] } })
  }

  const keptOf = async ({ genesis, manifest }: OpenVersion): Promise<Brought> =>
    isLocalKept()
      ? loadBrought(genesis, widthOf(manifest), manifest.output.labels.length)
      : { drawings: [], parts: [] }

  const forget = async (genesis: string) => {
    await onKept(genesis, (keeper) => keeper.forget())
    tellForgotten(genesis)
  }

  const learnCost = (cid: string, { backend, msPerStep, remarks }: Speed) => {
    const cost = { backend, msPerStep, remarks, at: Date.now() }
    saveCost(cid, cost)
    dispatch({ type: 'measured', cid, cost })
  }

  const stopMeasuring = () => {
    if (!measuring) return
    const { cid, stop } = measuring
    measuring = undefined
    stop.abort()
    dispatch({ type: 'unmeasured', cid, fault: undefined })
  }

  const attempt = async (what: () => Promise<void>, failed: (fault: Fault['detail']) => Action) => {
    try {
      await what()
    } catch (error) {
      dispatch(failed(detailOf(error)))
    }
  }

  const onReading = (version: OpenVersion, what: string, read: () => Promise<void>) => {
    const { genesis } = version
    dispatch({ type: 'reading', genesis, what })
    return attempt(read, (fault) => ({ type: 'readFailed', genesis, fault }))
  }

  /** Reads a run to its end; its faults end it. */
  const follow = async (version: OpenVersion, current: Run) => {
    let fault: Fault['detail'] | undefined
    const reports = gathered((actions) => {
      state.value = actions.reduce(reduce, state.value)
      meter(current)
    })
    try {
      for await (const report of current.reports) {
        reports.take({ type: 'reported', report, at: Date.now() })
        if (report.ev === 'phase') {
          reports.flush()
          noticeAlone(isAlone(report.phase))
        }
        if (report.ev === 'phase' && report.phase === 'settling') await rememberParams(version)
      }
      await rememberParams(version)
    } catch (error) {
      fault = detailOf(error)
    }
    reports.flush()
    clearTimeout(wake)
    noticeAlone(false)
    meter(current)
    run = undefined // first: views ask again as soon as they hear
    dispatch({ type: 'ended', fault })
    void loadRuns()
  }

  /** The page's own copy, so that the result can be tried and taken after the run. */
  const rememberParams = async ({ genesis }: OpenVersion) => {
    const params = await run?.params().catch(() => undefined)
    if (!params) return
    own = { genesis, params }
    forgetPredictors((name) => name.startsWith('own '))
  }

  const ownOf = async (version: OpenVersion): Promise<Uint8Array | undefined> => {
    const { genesis } = version
    if (own?.genesis === genesis) return own.params
    if (recalled?.genesis === genesis) return recalled.params
    const params = isKept(state.value, genesis)
      ? await (await services).keptParams(version)
      : undefined
    if (params) recalled = { genesis, params }
    return params
  }

  /** Who stays alone for a while is told why. */
  const noticeAlone = (is: boolean) => {
    if (is) {
      alone ??= setTimeout(() => dispatch({ type: 'lonely' }), ALONE_MS)
      return
    }
    clearTimeout(alone)
    alone = undefined
  }

  /** What was set since, a run that goes on follows. */
  const heed = (current: Run, before: Pick<Settings, 'intensity'>) => {
    const { intensity } = state.value.settings
    if (intensity !== before.intensity) current.setPace(intensity)
    meter(current)
  }

  /** Counts what a run has sent and received since, as today's, and holds it to the day's limit. Answers whether that is reached. */
  const meter = (current: Run | undefined): boolean => {
    const total = current ? current.traffic.up + current.traffic.down : 0
    const more = current ? total - counted : 0
    traffic = countOn(new Date(), loadTraffic() ?? traffic, more)
    if (current) counted = total
    if (more > 0) saveTraffic(traffic)
    const { settings, run: shown, today } = state.value
    const limited = isSpent(traffic, settings.megabytes)
    if (limited !== shown?.limited || traffic.bytes !== today)
      dispatch({ type: 'metered', today: traffic.bytes, limited })
    if (current && swapping === limited) {
      swapping = !limited
      current.allowSwaps(swapping)
    }
    return limited
  }

  /** Who asks anew wants no answer to the question before. */
  const listModels = async (asked: Asked = { query: '', task: '' }) => {
    listing?.abort()
    const now = new AbortController()
    listing = now
    dispatch({ type: 'listing' })
    try {
      const list = await (await services).listModels(asked, now.signal)
      if (!now.signal.aborted) dispatch({ type: 'listed', list })
    } catch (error) {
      if (!now.signal.aborted) dispatch({ type: 'listFailed', fault: detailOf(error) })
    }
  }

  const loadRuns = () =>
    attempt(
      async () => dispatch({ type: 'kept', runs: await (await services).runs() }),
      (fault) => ({ type: 'keptFailed', fault }),
    )

  const loadVersions = async () => {
    void roomHere().then((room) => dispatch({ type: 'roomMeasured', room }))
    await attempt(
      async () => dispatch({ type: 'versions', versions: await (await services).versions() }),
      (fault) => ({ type: 'versionsFailed', fault }),
    )
  }

  meter(undefined)

  const resume = () => {
    clearTimeout(wake)
    run?.resume()
    dispatch({ type: 'pausing', until: undefined })
  }

  return {
    state,
    dispatch,

    listModels,

    open(reference, via, options) {
      const { opened } = state.value
      const isSame = opened.type !== 'none' && opened.reference === reference
      const isTold = via.every((address) => told.includes(address))
      const isHere = opened.type === 'open' || (opened.type === 'fetching' && isTold)
      if (isSame && isHere && !options?.again) return Promise.resolve()
      opening?.abort()
      told = via
      opening = new AbortController()
      const { signal } = opening
      dispatch({ type: 'opening', reference })
      return attempt(
        async () => {
          const version = await (await services).openVersion(reference, via, {
            onProgress: (progress) => dispatch({ type: 'fetched', reference, progress }),
            signal,
          })
          forgetPredictors((name) => name !== version.cid)
          newest = undefined
          dispatch({ type: 'opened', reference, version })
          const { cid } = version
          const cost = loadCost(cid)
          if (cost) dispatch({ type: 'measured', cid, cost })
        },
        (fault) => ({ type: 'openFailed', reference, fault }),
      )
    },

    async join(address) {
      dispatch({ type: 'joining', joining: { type: 'dialling', address } })
      await attempt(
        async () => {
          await (await services).join(address)
          dispatch({ type: 'joining', joining: { type: 'joined', address } })
        },
        (fault) => ({ type: 'joining', joining: { type: 'failed', address, fault } }),
      )
    },

    unjoin(address) {
      return attempt(
        async () => (await services).unjoin(address),
        (fault) => ({ type: 'joining', joining: { type: 'failed', address, fault } }),
      )
    },

    async selfTest() {
      if (state.value.selfTest.type === 'running') return
      let checks: readonly Check[] = []
      const tell = (type: 'running' | 'done') =>
        dispatch({ type: 'testing', selfTest: { type, checks } })
      tell('running')
      await attempt(
        async () => {
          const ready = await services
          await ready.selfTest((now) => {
            checks = now
            tell('running')
          })
          tell('done')
        },
        (fault) => ({ type: 'testing', selfTest: { type: 'failed', checks, fault } }),
      )
    },

    async draw({ genesis }, drawing) {
      dispatch({ type: 'drawn', genesis, drawing })
      await save(genesis, { added: { drawings: [drawing] } })
    },

    async undo({ genesis }) {
      const removed = workOf(state.value, genesis).drawings.at(-1)
      dispatch({ type: 'undrawn', genesis })
      if (removed) await save(genesis, { removed })
    },

    async remove({ genesis }, part) {
      const removed = workOf(state.value, genesis).parts.find(({ id }) => id === part)
      dispatch({ type: 'removed', genesis, part })
      if (removed) await save(genesis, { removed })
    },

    async keep(version, keep) {
      const { genesis } = version
      await restoring.get(genesis)
      if (keep === workOf(state.value, genesis).keep) return
      if (keep) return share(genesis, await keptOf(version))
      dispatch({ type: 'keeping', genesis, keep })
      await forget(genesis)
    },

    async empty({ genesis }) {
      await restoring.get(genesis)
      dispatch({ type: 'emptied', genesis })
      if (workOf(state.value, genesis).keep) await forget(genesis)
    },

    restore(version) {
      const { genesis } = version
      const before = restoring.get(genesis)
      if (before && sizeOfWork(workOf(state.value, genesis)) > 0) return before
      const now = (before ?? Promise.resolve()).then(async () => {
        const kept = await keptOf(version)
        if (kept.drawings.length + kept.parts.length > 0) await share(genesis, kept)
      })
      restoring.set(genesis, now)
      return now
    },

    useSample(version) {
      return onReading(version, text.data.fetchingSample, async () => {
        const examples = await (await services).sampleOf(version)
        if (!examples)
          return dispatch({
            type: 'readFailed',
            genesis: version.genesis,
            fault: pageFault('data', 'no-sample', {}).detail,
          })
        dispatch({
          type: 'read',
          genesis: version.genesis,
          part: {
            source: 'sample',
            name: text.data.sampleName,
            examples,
            skips: { list: [], count: 0 },
          },
        })
        await saveLast(version)
      })
    },

    addFiles(version, files, options = {}) {
      const { genesis, manifest } = version
      return onReading(version, text.data.lookingAtFiles, async () => {
        let told = 0
        const onProgress = (done: number, total: number) => {
          if (Date.now() - told < PROGRESS_EVERY_MS) return
          told = Date.now()
          dispatch({ type: 'reading', genesis, what: text.data.readingFile(done, total) })
        }
        const { format, name, examples, skips } = await readFiles(await files, manifest, {
          ...options,
          onProgress,
        })
        const source = format === 'csv' ? 'csv' : 'imagefolder'
        dispatch({ type: 'read', genesis, part: { source, name, examples, skips } })
        await saveLast(version)
      })
    },

    async measure(version) {
      if (isLive(state.value.run)) return
      stopMeasuring()
      const { cid, genesis } = version
      const mine = { cid, stop: new AbortController() }
      measuring = mine
      dispatch({ type: 'measuring', cid, progress: undefined })
      try {
        const speed = await (await services).measure(version, {
          examples: sizeOfWork(workOf(state.value, genesis)),
          onProgress: (progress) => dispatch({ type: 'measuring', cid, progress }),
          signal: mine.stop.signal,
        })
        if (measuring === mine) learnCost(cid, speed)
      } catch (error) {
        if (measuring === mine) dispatch({ type: 'unmeasured', cid, fault: detailOf(error) })
      }
      if (measuring === mine) measuring = undefined
    },

    stopMeasuring,

    async start(version, options) {
      const before = state.value.run
      if (isLive(before)) return
      stopMeasuring() // the first steps are a run's own
      wish = 'go'
      // What no checkpoint holds is on this page alone: the next run goes on from it.
      const from =
        options.resume && (before as AppState['run'])?.unsaved && own?.genesis === version.genesis
          ? own.params
          : undefined
      const work = workOf(state.value, version.genesis)
      const resumes = options.resume && !from && isKept(state.value, version.genesis)
      dispatch({ type: 'started', version, examples: sizeOfWork(work), resumes })
      ofRun = version
      const { intensity } = state.value.settings
      const rounds = roundsOf(state.value.settings, version.manifest)
      swapping = !meter(undefined)
      await attempt(
        async () => {
          const ready = await services
          run = await ready.train(version, {
            examples: examplesOf(work, widthOf(version.manifest)),
            format: work.parts.some(({ source }) => source === 'csv') ? 'csv' : 'imagefolder',
            skips: skipsOf(work),
            resume: options.resume,
            pace: intensity,
            swapping,
            onKept: (fault) => dispatch({ type: 'unsaved', fault }),
            onPreparing: (progress) => dispatch({ type: 'preparing', progress }),
            ...(from && { from }),
            ...(rounds !== undefined && { rounds }),
          })
          dispatch({ type: 'joined', view: run.view })
          learnCost(version.cid, run.view)
          counted = 0
          following = follow(version, run)
          heed(run, { intensity })
          if (wish === 'finish') run.finish()
          if (wish === 'stop') await run.leave(LEFT)
        },
        (fault) => ({ type: 'ended', fault }),
      )
    },

    pause(ms) {
      clearTimeout(wake)
      run?.pause()
      if (ms !== undefined) wake = setTimeout(resume, ms)
      dispatch({ type: 'pausing', until: ms === undefined ? undefined : Date.now() + ms })
    },

    resume,

    finish() {
      clearTimeout(wake)
      wish = 'finish'
      run?.resume() // a paused round ends no sooner than it goes on
      dispatch({ type: 'ending' })
      run?.finish()
    },

    async stop() {
      clearTimeout(wake)
      wish = 'stop'
      dispatch({ type: 'ending' })
      dispatch({ type: 'reported', report: phaseReport('leaving'), at: Date.now() })
      if (ofRun) await rememberParams(ofRun)
      await run?.leave(LEFT).catch(() => {})
      await following
    },

    async predict(version, examples) {
      const published = await predictBy(version.cid, version, examples)
      const mine = await mineOf(version, examples)
      return { published, mine, newest: await newestOf(version, examples) }
    },

    async trace(version) {
      const { lineage } = state.value
      const { cid } = version
      if (lineage?.of === cid && lineage.type !== 'failed') return
      const { signal } = opening ?? new AbortController()
      dispatch({ type: 'tracing', lineage: { type: 'fetching', of: cid, ancestors: [] } })
      const ancestors: Ancestor[] = []
      const found = () => ({ of: cid, ancestors: [...ancestors] })
      await attempt(
        async () => {
          for await (const ancestor of (await services).ancestorsOf(version, signal)) {
            ancestors.push(ancestor)
            dispatch({ type: 'tracing', lineage: { type: 'fetching', ...found() } })
          }
          dispatch({ type: 'tracing', lineage: { type: 'whole', ...found() } })
        },
        (fault) => ({ type: 'tracing', lineage: { type: 'failed', ...found(), fault } }),
      )
    },

    async compare({ cid, manifest }, { version: reference, manifestVersion: number }) {
      const beside = { beside: cid, number }
      dispatch({ type: 'comparing', compared: { type: 'fetching', ...beside } })
      await attempt(
        async () => {
          const fetched = await (await services).openVersion(reference, [], { onProgress() {} })
          const { compared } = state.value
          if (compared.type !== 'fetching' || compared.beside !== cid) return
          requireAlike(fetched.manifest, manifest)
          newest = fetched
          dispatch({ type: 'comparing', compared: { type: 'ready', ...beside } })
        },
        (fault) => ({ type: 'comparing', compared: { type: 'failed', ...beside, fault } }),
      )
    },

    async ownParams(version) {
      if (run && state.value.run?.genesis === version.genesis) return run.params()
      return ownOf(version)
    },

    loadRuns,

    forgetRun(genesis) {
      return attempt(
        async () => {
          const ready = await services
          await ready.forgetRun(genesis)
          if (recalled?.genesis === genesis) {
            recalled = undefined
            if (own?.genesis !== genesis) forgetPredictors((name) => name.startsWith('own '))
          }
          dispatch({ type: 'kept', runs: await ready.runs() })
        },
        (fault) => ({ type: 'keptFailed', fault }),
      )
    },

    loadVersions,

    freeVersion(cid) {
      return attempt(
        async () => {
          const ready = await services
          const { run } = state.value
          if (useOf(state.value, cid) === 'trained') throw new Fault(text.versionsHere.trained)
          await ready.freeVersion(cid, isLive(run) ? run.genesis : undefined)
          await loadVersions()
        },
        (fault) => ({ type: 'versionsFailed', fault }),
      )
    },

    async askForPromise() {
      await askForPromise()
      dispatch({ type: 'roomMeasured', room: await roomHere() })
    },

    loadOwner() {
      return attempt(
        async () => dispatch({ type: 'owned', id: await (await services).owner() }),
        (fault) => ({ type: 'ownerFailed', fault }),
      )
    },

    async exportOwner(passphrase) {
      let file: { name: string; text: string } | undefined
      dispatch({ type: 'owning', doing: 'export' })
      await attempt(
        async () => {
          const ready = await services
          file = await ready.exportOwner(passphrase)
          dispatch({ type: 'ownerDone', id: (await ready.owner())!, done: 'exported' })
        },
        (fault) => ({ type: 'ownerFailed', fault }),
      )
      return file
    },

    importOwner(file, passphrase) {
      dispatch({ type: 'owning', doing: 'import' })
      return attempt(
        async () => {
          const id = await (await services).importOwner(file, passphrase)
          dispatch({ type: 'ownerDone', id, done: 'imported' })
        },
        (fault) => ({ type: 'ownerFailed', fault }),
      )
    },

    set(changed) {
      const before = state.value.settings
      dispatch({ type: 'set', settings: changed })
      saveSettings(state.value.settings)
      if (run) heed(run, before)
      else meter(undefined)
    },
  }
}

/** Two versions can be asked the same only if they take the same and answer with the same labels. */
function requireAlike(theirs: Manifest, ours: Manifest): void {
  const isAlike = [theirs, ours].map(({ input, output }) => JSON.stringify([input, output.labels]))
  if (isAlike[0] === isAlike[1]) return
  throw pageFault('data', 'not-alike', { version: theirs.version, ours: ours.version })
}

/** A quick model has a hundred rounds a second; drawing each would take the time that the rounds need. */
const DRAW_EVERY_MS = 250

/** Actions that come together are taken together. */
function gathered(takeAll: (actions: Action[]) => void) {
  let waiting: Action[] = []
  let timer: ReturnType<typeof setTimeout> | undefined
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    const actions = waiting
    waiting = []
    if (actions.length > 0) takeAll(actions)
  }
  return {
    take(action: Action) {
      waiting.push(action)
      timer ??= setTimeout(flush, DRAW_EVERY_MS)
    },
    flush,
  }
}

/** The reason that the others hear. */
const LEFT = 'stopped by its user'

/** A newcomer looks for peers for 5 s; who is alone after that knows why well within 15 s. */
const ALONE_MS = 5_000

/** Reading files says how far it is this often. */
const PROGRESS_EVERY_MS = 200

/** For views that call a service's function of their own. */
export function detailOf(error: unknown): Fault['detail'] {
  return faultFrom(error).detail
}
