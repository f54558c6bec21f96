/** Languages that text.ts has a catalogue of, by their tags; the first speaks where a person reads none of them. */
export const languages = ['en'] as const
export type Language = (typeof languages)[number]

/** The first of a person's languages that there is a catalogue of. Tags are BCP 47's. */
export function languageFor(wanted: readonly string[]): Language {
  const known = wanted.map((tag) => languages.find((language) => isIn(language, tag)))
  return known.find((language) => language !== undefined) ?? languages[0]
}

/** Whose figures, dates and units: the language's as it is used where the person lives, `en-GB` for `en`. */
export function localeFor(language: Language, wanted: readonly string[]): string {
  return wanted.find((tag) => isIn(language, tag)) ?? language
}

/** For all of this page, its workers too. */
export const language = languageFor(navigator.languages)
export const locale = localeFor(language, navigator.languages)

function isIn(language: Language, tag: string): boolean {
  return tag.toLowerCase().split('-')[0] === language
}
