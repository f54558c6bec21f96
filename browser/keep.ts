import { del, get, update } from 'idb-keyval'
import type { Fault } from '../protocol/errors.ts'
import type { Traffic } from './quota.ts'
import {
  type Cost,
  type Drawing,
  intensities,
  isSame,
  type Part,
  type Settings,
  themes,
  type Work,
} from './state.ts'
import { pageFault } from './words.ts'

/** What a person asked this browser to remember: settings, and their data if they said so. A browser that keeps nothing is fine. */

const SETTINGS = 'mlstore.settings'
const TRAFFIC = 'mlstore.traffic'
const COSTS = 'mlstore.costs'
/** Versions whose cost is remembered. */
const COSTS_KEPT = 64

export function loadSettings(): Settings {
  const kept = read(SETTINGS)
  return {
    theme: themes.find((theme) => theme === kept['theme']) ?? 'auto',
    rounds: countIn(kept['rounds']),
    intensity: intensities.find((share) => share === kept['intensity']) ?? 1,
    megabytes: countIn(kept['megabytes']),
    shortcuts: kept['shortcuts'] !== false,
  }
}

export function saveSettings(settings: Settings): void {
  write(SETTINGS, settings)
}

/** What swaps sent and received on the last day that they did; undefined when nothing is kept. */
export function loadTraffic(): Traffic | undefined {
  const { day, bytes } = read(TRAFFIC)
  return typeof day === 'string' ? { day, bytes: countIn(bytes) } : undefined
}

export function saveTraffic(traffic: Traffic): void {
  write(TRAFFIC, traffic)
}

/** What was measured of a version, by whichever backend last. */
export function loadCost(cid: string): Cost | undefined {
  return costs().find((cost) => cost.cid === cid)?.cost
}

/** The last measured come first: one of a version and backend. */
export function saveCost(cid: string, cost: Cost): void {
  const others = costs().filter((one) => one.cid !== cid || one.cost.backend !== cost.backend)
  write(COSTS, { kept: [{ cid, cost }, ...others].slice(0, COSTS_KEPT) })
}

function costs(): { cid: string; cost: Cost }[] {
  return listIn(read(COSTS)['kept']).filter(isCost)
}

function isCost(kept: unknown): kept is { cid: string; cost: Cost } {
  const { cid, cost } = (kept ?? {}) as {
    cid?: unknown
    cost?: Partial<Record<keyof Cost, unknown>>
  }
  const isNumber = [cost?.msPerStep, cost?.at].every(
    (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0,
  )
  const isTold =
    Array.isArray(cost?.remarks) && cost.remarks.every((one) => typeof one === 'string')
  return typeof cid === 'string' && typeof cost?.backend === 'string' && isNumber && isTold
}

export function isLocalKept(): boolean {
  return typeof indexedDB !== 'undefined'
}

/** What a person brought to one model. */
export type Brought = Pick<Work, 'drawings' | 'parts'>

/** What was kept for this model; none of what is of another shape, or when the browser keeps nothing. */
export async function loadBrought(
  genesis: string,
  width: number,
  labels: number,
): Promise<Brought> {
  const [drawings, parts] = await Promise.all(
    kinds.map((kind) => keptAs(`${kind}/${genesis}`).catch(() => [])),
  )
  return {
    drawings: listIn(drawings).filter((one): one is Drawing => isDrawing(one, width, labels)),
    parts: listIn(parts).filter((one): one is Part => isPart(one, width, labels)),
  }
}

/** What one page keeps of what was brought to a model. Calls may overlap; each writes after the one before. */
export interface Keeper {
  /** Adds to what is kept, and takes one away. Throws Fault `disk-full` or `no-storage`; the next call tries what failed again. */
  change(change: Change): Promise<void>
  /** Forgets all of it, whichever page kept it. Throws as `change` does. */
  forget(): Promise<void>
}

export interface Change {
  added?: Partial<Brought>
  removed?: Drawing | Part
}

/** Every page of a profile keeps in one place: each adds and takes away its own there, and overwrites nobody's. */
export function keeperOf(genesis: string): Keeper {
  let waiting: Change[] = []
  let last = Promise.resolve()
  const inTurn = (work: () => Promise<void>) => {
    const mine = last.then(work).catch((error: Error) => {
      throw notKept(error)
    })
    last = mine.catch(() => {})
    return mine
  }
  /** Of each kind alone, because files may be large. */
  const write = async () => {
    const changes = waiting
    waiting = []
    for (const [i, kind] of kinds.entries()) {
      const ours = changes.filter((change) => kindsOf(change).includes(kind))
      if (ours.length === 0) continue
      try {
        await update(`${kind}/${genesis}`, (kept) =>
          ours.reduce((list, change) => changed(list, change, kind), listIn(kept)),
        )
      } catch (error) {
        waiting = [...kinds.slice(i).flatMap((rest) => changes.map(only(rest))), ...waiting]
        throw error
      }
    }
  }
  return {
    change(change) {
      waiting.push(change)
      return inTurn(write)
    },
    forget() {
      waiting = []
      return inTurn(async () => {
        for (const kind of kinds) await forget(`${kind}/${genesis}`)
      })
    },
  }
}

function kindsOf({ added, removed }: Change): Kind[] {
  return kinds.filter(
    (kind) => (added?.[kind]?.length ?? 0) > 0 || (removed && kindOf(removed) === kind),
  )
}

function kindOf(one: Drawing | Part): Kind {
  return 'pixels' in one ? 'drawings' : 'parts'
}

function changed(list: unknown[], { added, removed }: Change, kind: Kind): unknown[] {
  const at =
    removed && kindOf(removed) === kind
      ? list.findLastIndex((one) => one instanceof Object && isSame(removed, one as Drawing | Part))
      : -1
  return [...(at < 0 ? list : list.toSpliced(at, 1)), ...(added?.[kind] ?? [])]
}

/** The part of a change that is of this kind. */
function only(kind: Kind): (change: Change) => Change {
  return ({ added, removed }) => ({
    ...(added?.[kind] && { added: { [kind]: added[kind] } }),
    ...(removed && kindOf(removed) === kind && { removed }),
  })
}

/** Calls back when another page of this profile forgot what was kept for a model; gives a function that tells them of ours. */
export function openForgetting(forgotten: (genesis: string) => void): (genesis: string) => void {
  if (!isLocalKept() || typeof BroadcastChannel === 'undefined') return () => {}
  const channel = new BroadcastChannel('mlstore-forgotten')
  channel.onmessage = ({ data }) => forgotten(String(data))
  return (genesis) => channel.postMessage(genesis)
}

const kinds = ['drawings', 'parts'] as const
type Kind = (typeof kinds)[number]

function listIn(kept: unknown): unknown[] {
  return Array.isArray(kept) ? kept : []
}

function isDrawing(kept: unknown, width: number, labels: number): boolean {
  const { pixels, label } = (kept ?? {}) as Partial<Drawing>
  return pixels instanceof Uint8Array && pixels.length === width && isBelow(labels)(label)
}

function isPart(kept: unknown, width: number, labels: number): boolean {
  const { id, source, name, examples, skips } = (kept ?? {}) as Partial<Part>
  if (!examples || !skips || typeof name !== 'string' || !Number.isInteger(id)) return false
  const { size, inputs, labels: places } = examples
  const isSized =
    examples.width === width && inputs?.length === size * width && places?.length === size
  const isTyped = inputs instanceof Uint8Array || inputs instanceof Float32Array
  const isNamed = ['sample', 'imagefolder', 'csv'].includes(source ?? '')
  return isNamed && isTyped && isSized && places.every(isBelow(labels)) && Array.isArray(skips.list)
}

function isBelow(labels: number): (label: number | undefined) => boolean {
  return (label) => Number.isInteger(label) && label! >= 0 && label! < labels
}

/** Where nothing is kept there is nothing to forget. */
async function forget(key: string): Promise<void> {
  if ((await keptAs(key).catch(() => undefined)) !== undefined) await del(key)
}

function notKept(error: Error): Fault {
  return error.name === 'QuotaExceededError'
    ? pageFault('resource', 'disk-full', { what: 'data' }, error)
    : pageFault('resource', 'no-storage', { what: 'data', why: error.message }, error)
}

/** Rejects where the browser opens no database, which throws at once. */
async function keptAs(key: string): Promise<unknown> {
  return get(key)
}

function write(name: string, what: object): void {
  try {
    localStorage.setItem(name, JSON.stringify(what))
  } catch {
    // Storage is off or full: it holds until the page closes.
  }
}

function countIn(kept: unknown): number {
  return Number.isSafeInteger(kept) ? Math.max(0, Number(kept)) : 0
}

function read(name: string): Record<string, unknown> {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(name) ?? '{}')
    return kept instanceof Object ? (kept as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
