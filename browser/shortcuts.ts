import type { Page } from './page.ts'
import { text } from './text.ts'

/** Every key that acts by itself, what it says it does, and what it does. Source: WCAG 2.1.4, they can be switched off. */
export interface Shortcut {
  /** As `KeyboardEvent.key` has it, whatever else is held for it on this keyboard. */
  key: string
  says: string
  act(hands: Hands): void
}

/** What a shortcut acts by: the page, and what only the app's view can do. */
export interface Hands {
  page: Pick<Page, 'state' | 'pause' | 'resume'>
  /** Goes to the models and puts the cursor in their search. */
  search(): void
  /** Shows this list. */
  help(): void
}

export const shortcuts: readonly Shortcut[] = [
  { key: '/', says: text.shortcuts.search, act: ({ search }) => search() },
  { key: 'p', says: text.shortcuts.pause, act: ({ page }) => pauseOrResume(page) },
  { key: '?', says: text.shortcuts.help, act: ({ help }) => help() },
]

/** What of a keyboard event tells whether it was meant as a shortcut; `target` is where the cursor was. */
export type Pressed = Pick<
  KeyboardEvent,
  'key' | 'ctrlKey' | 'metaKey' | 'altKey' | 'repeat' | 'isComposing' | 'defaultPrevented'
> & { target: unknown }

/** The shortcut that was meant; undefined while somebody types, holds a modifier, or something else took the key. */
export function shortcutOf(pressed: Pressed): Shortcut | undefined {
  const { ctrlKey, metaKey, altKey, repeat, isComposing, defaultPrevented } = pressed
  if (ctrlKey || metaKey || altKey || repeat || isComposing || defaultPrevented) return undefined
  return isTyping(pressed.target) ? undefined : shortcuts.find(({ key }) => key === pressed.key)
}

/** Kinds of input that take no letters. */
const WORDLESS = ['button', 'checkbox', 'file', 'radio', 'range', 'submit']

function isTyping(target: unknown): boolean {
  const { tagName, type, isContentEditable } = (target ?? {}) as Partial<HTMLInputElement>
  if (tagName === 'INPUT') return !WORDLESS.includes(type ?? 'text')
  return tagName === 'TEXTAREA' || tagName === 'SELECT' || isContentEditable === true
}

function pauseOrResume({ state, pause, resume }: Hands['page']): void {
  const { run } = state.value
  if (run?.type !== 'running') return
  if (run.phase === 'paused') resume()
  else pause()
}
