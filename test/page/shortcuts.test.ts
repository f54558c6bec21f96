import { expect, test } from 'vitest'
import { type Hands, type Pressed, shortcutOf, shortcuts } from '../../browser/shortcuts.ts'
import type { RunState } from '../../browser/state.ts'

function pressed(key: string, more: Partial<Pressed> = {}): Pressed {
  const modifiers = { ctrlKey: false, metaKey: false, altKey: false }
  const target = { tagName: 'BODY' }
  return {
    ...modifiers,
    ...{ key, target, repeat: false, isComposing: false, defaultPrevented: false },
    ...more,
  }
}

/** Hands that write down what they do, over a run that is so. */
function handsOf(run: Partial<RunState> | undefined) {
  const done: string[] = []
  const hands = {
    page: {
      state: { value: { run } },
      pause: () => done.push('pause'),
      resume: () => done.push('resume'),
    },
    search: () => done.push('search'),
    help: () => done.push('help'),
  } as unknown as Hands
  return { hands, done }
}

test('each key acts, and stands in the list with its own sentence', () => {
  const { hands, done } = handsOf({ type: 'running', phase: 'training' })
  for (const key of ['/', 'p', '?']) shortcutOf(pressed(key))!.act(hands)
  expect(done).toEqual(['search', 'pause', 'help'])
  expect(shortcutOf(pressed('x'))).toBeUndefined()
  expect(new Set(shortcuts.map(({ key }) => key)).size).toBe(shortcuts.length)
  expect(new Set(shortcuts.map(({ says }) => says)).size).toBe(shortcuts.length)
})

test.each<[string, Partial<RunState> | undefined, string[]]>([
  ['a paused run goes on', { type: 'running', phase: 'paused' }, ['resume']],
  ['a run that begins is left alone', { type: 'starting', phase: 'connecting' }, []],
  ['a run that ends is left alone', { type: 'ending', phase: 'settling' }, []],
  ['no run is no fault', undefined, []],
])('by p %s', (_, run, expected) => {
  const { hands, done } = handsOf(run)
  shortcutOf(pressed('p'))!.act(hands)
  expect(done).toEqual(expected)
})

test.each<[string, Partial<Pressed>]>([
  ['with Ctrl', { ctrlKey: true }],
  ['with Meta', { metaKey: true }],
  ['with Alt', { altKey: true }],
  ['held down', { repeat: true }],
  ['within a composed letter', { isComposing: true }],
  ['that something else took', { defaultPrevented: true }],
  ['typed in a text field', { target: { tagName: 'INPUT', type: 'text' } }],
  ['typed in a search field', { target: { tagName: 'INPUT', type: 'search' } }],
  ['typed in a text area', { target: { tagName: 'TEXTAREA' } }],
  ['that a list is searched by', { target: { tagName: 'SELECT' } }],
  ['typed in edited text', { target: { tagName: 'DIV', isContentEditable: true } }],
])('a key %s is no shortcut', (_, more) => {
  for (const { key } of shortcuts) expect(shortcutOf(pressed(key, more))).toBeUndefined()
})

test('a key on a button or a checkbox is one', () => {
  for (const target of [{ tagName: 'BUTTON' }, { tagName: 'INPUT', type: 'checkbox' }])
    expect(shortcutOf(pressed('p', { target }))?.key).toBe('p')
})
