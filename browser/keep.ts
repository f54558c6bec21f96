import { del, get, set } from 'idb-keyval'
import { type Drawing, intensities, type Settings, themes } from './state.ts'

/** What a person asked this browser to remember: settings, and drawings if they said so. A browser that keeps nothing is fine. */

const SETTINGS = 'mlstore.settings'

export function loadSettings(): Settings {
  const kept = read()
  return {
    theme: themes.find((theme) => theme === kept['theme']) ?? 'auto',
    rounds: Number.isSafeInteger(kept['rounds']) ? Math.max(0, Number(kept['rounds'])) : 0,
    intensity: intensities.find((share) => share === kept['intensity']) ?? 1,
  }
}

export function saveSettings(settings: Settings): void {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(settings))
  } catch {
    // Storage is off or full: they hold until the page closes.
  }
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
  const kept: unknown = await get(keyOf(genesis)).catch(() => undefined)
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

/** Undefined forgets them. */
export async function saveDrawings(
  genesis: string,
  drawings: readonly Drawing[] | undefined,
): Promise<void> {
  if (!isLocalKept()) return
  const done = drawings ? set(keyOf(genesis), [...drawings]) : del(keyOf(genesis))
  await done.catch(() => {})
}

function keyOf(genesis: string): string {
  return `drawings/${genesis}`
}

function read(): Record<string, unknown> {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(SETTINGS) ?? '{}')
    return kept instanceof Object ? (kept as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
