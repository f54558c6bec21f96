import { expect, test } from 'vitest'
import { languageFor, localeFor } from '../../browser/language.ts'

test('a person is spoken to in the first of their languages that there is a catalogue of', () => {
  expect(languageFor(['fr-CH', 'en-GB', 'en'])).toBe('en')
  expect(languageFor(['EN-us'])).toBe('en')
  expect(languageFor(['enm', 'fr'])).toBe('en') // none of theirs: the first there is
  expect(languageFor([])).toBe('en')
})

test('figures are the language’s as it is used where the person lives, and never another language’s', () => {
  expect(localeFor('en', ['fr-CH', 'en-GB', 'en-US'])).toBe('en-GB')
  expect(localeFor('en', ['de-DE'])).toBe('en')
})
