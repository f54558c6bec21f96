import { del, get, set } from 'idb-keyval'
import { Fault } from '../protocol/errors.ts'
import type { Traffic } from './quota.ts'
import { type Drawing, intensities, type Settings, themes } from './state.ts'

/** What a person asked this browser to remember: settings, and drawings if they said so. A browser that keeps nothing is fine. */

const SETTINGS = 'mlstore.settings'
const TRAFFIC = 'mlstore.traffic'

export function loadSettings(): Settings {
  const kept = read(SETTINGS)
  return {
    theme: themes.find((theme) => theme === kept['theme']) ?? 'auto',
    rounds: countIn(kept['rounds']),
    intensity: intensities.find((share) => share === kept['intensity']) ?? 1,
    megabytes: countIn(kept['megabytes']),
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

export function isLocalKept(): boolean {
  return typeof indexedDB !== 'undefined'
}

/** Drawings kept for this model; none when the browser keeps nothing, or what it kept is of another shape. */
export async function loadDrawings(
  genesis: string,
  width: number,
  labels: number,
): Promise<Drawing[]> {
  const kept: unknown = await keptAs(keyOf(genesis)).catch(() => undefined)
  if (!Array.isArray(kept)) return []
  return kept.filter(
    (drawing: Partial<Drawing> | undefined): drawing is Drawing =>
      drawing?.pixels instanceof Uint8Array &&
      drawing.pixels.length === width &&
      Number.isInteger(drawing.label) &&
      drawing.label! >= 0 &&
      drawing.label! < labels,
  )
}

/** Undefined forgets them. Throws Fault `disk-full` or `no-storage`. */
export async function saveDrawings(
  genesis: string,
  drawings: readonly Drawing[] | undefined,
): Promise<void> {
  try {
    if (drawings) await set(keyOf(genesis), [...drawings])
    else await forget(genesis)
  } catch (error) {
    throw notKept(error as Error)
  }
}

/** Where nothing is kept there is nothing to forget. */
async function forget(genesis: string): Promise<void> {
  if ((await keptAs(keyOf(genesis)).catch(() => undefined)) !== undefined) await del(keyOf(genesis))
}

function notKept(error: Error): Fault {
  const isFull = error.name === 'QuotaExceededError'
  return new Fault(
    {
      kind: 'resource',
      type: isFull ? 'disk-full' : 'no-storage',
      message: isFull
        ? 'this browser has no room left for the drawings; they stay on this page until it closes'
        : 'this browser keeps nothing for this page; the drawings stay on it until it closes',
      hint: isFull
        ? 'free some space or forget an old run under Mine, then draw on or tick it again'
        : 'allow it to keep site data, or use a window that is not private',
    },
    error,
  )
}

/** Rejects where the browser opens no database, which throws at once. */
async function keptAs(key: string): Promise<unknown> {
  return get(key)
}

function keyOf(genesis: string): string {
  return `drawings/${genesis}`
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
