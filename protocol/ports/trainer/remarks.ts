/**
 * What a trainer remarks: why something else computes, and what frozen layers cost. A report carries the English sentence; who
 * speaks another language reads its name and its facts back, by the same pattern.
 */
const patterns = {
  differs: '{backend} is not used: its step differs by {difference}, expected at most {most}',
  slower: '{backend} is not used: its step takes {ms} ms, that of {other} {otherMs} ms',
  /** It stands behind those that begin as it does. */
  failed: '{backend} is not used: {why}',
  another: '{backend} did not start: {other} computes',
  'no-room':
    'the features of {examples} examples have no room here: each step computes the frozen layers anew',
  'features-first':
    'the features of {examples} examples are computed before the first round, in about {seconds} s',
} as const

export type RemarkType = keyof typeof patterns
type NamesIn<S> = S extends `${string}{${infer Name}}${infer Rest}` ? Name | NamesIn<Rest> : never
/** As they stand in the sentence. */
export type RemarkFacts<T extends RemarkType> = Record<NamesIn<(typeof patterns)[T]>, string>
export type Remark = { [T in RemarkType]: { type: T; facts: RemarkFacts<T> } }[RemarkType]

export function sayRemark<T extends RemarkType>(type: T, facts: RemarkFacts<T>): string {
  const given: Record<string, string> = facts
  return patterns[type].replace(places, (_, name: string) => given[name]!)
}

/** Undefined for a sentence that is none of these, of a later version say. */
export function readRemark(sentence: string): Remark | undefined {
  for (const [type, pattern] of Object.entries(patterns)) {
    const found = new RegExp(`^${pattern.replace(places, '(?<$1>.+)')}$`).exec(sentence)
    if (found) return { type, facts: { ...found.groups } } as Remark
  }
}

const places = /\{(\w+)\}/g
