import { type Catalogue, text as english } from '../../browser/text.ts'

/**
 * A language that nobody speaks, for `?pseudo` in the address: every string of the catalogue stands in ⟦brackets⟧. What it says of
 * a fault is its type and its facts and nothing else, for that is all that a second language has. Never shipped.
 */
export const text: Catalogue = new URLSearchParams(location.search).has('pseudo')
  ? { ...(spoken(english) as Catalogue), lang: english.lang, faults: ofFacts() }
  : english

function spoken(said: unknown): unknown {
  if (typeof said === 'string') return `⟦${said}⟧`
  if (typeof said === 'function') return (...given: unknown[]) => spoken(said(...given))
  if (Array.isArray(said)) return said.map(spoken)
  if (!(said instanceof Object)) return said
  return Object.fromEntries(
    Object.entries(said).map(([name, inner]) => [name, isName(name, said) ? inner : spoken(inner)]),
  )
}

/** What a whole fault that stands in the catalogue is called, by programs. */
function isName(member: string, said: object): boolean {
  return 'hint' in said && 'message' in said && (member === 'type' || member === 'kind')
}

function ofFacts(): Catalogue['faults'] {
  const said: unknown = Object.fromEntries(
    Object.keys(english.faults).map((type) => [type, sentenceOf(type)]),
  )
  return said as Catalogue['faults']
}

function sentenceOf(type: string) {
  return ({
    kind: _kind,
    type: _type,
    message,
    hint: _hint,
    ...facts
  }: Record<string, unknown>) => {
    const known = type === 'unexpected' ? { message } : facts
    return { message: `⟦${type} ${JSON.stringify(known)}⟧`, hint: `⟦after ${type}⟧` }
  }
}
