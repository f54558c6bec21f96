import { Fault, type FaultDetail, type FaultKind } from '../protocol/errors.ts'
import { type RemarkType, readRemark } from '../protocol/ports/trainer/remarks.ts'
import type { Words } from './text/faults.ts'
import { text } from './text.ts'

type Sentences = typeof text.faults
type Type = keyof Sentences

/** A fault that this page makes: its words are the catalogue's, of its facts. */
export function pageFault<T extends Type>(
  kind: FaultKind,
  type: T,
  facts: Omit<Parameters<Sentences[T]>[0], keyof Words>,
  cause?: unknown,
): Fault {
  const { message, hint } = wordsFor(type, facts)
  return new Fault<string>({ ...facts, kind, type, message, hint }, cause)
}

/** What a person reads of any fault. A type that this page does not know, of a later protocol/ say, says it in its own words. */
export function wordsOf(fault: FaultDetail): Words {
  return isKnown(fault.type) ? wordsFor(fault.type, fault) : fault
}

/** A remark of a trainer, where this page knows it; else as it came, in English. */
export function wordsOfRemark(sentence: string): string {
  const remark = readRemark(sentence)
  const sentences = text.card.remarks as Record<RemarkType, (facts: object) => string>
  return text.card.remark(remark ? sentences[remark.type](remark.facts) : sentence)
}

function isKnown(type: string): type is Type {
  return Object.hasOwn(text.faults, type)
}

/** Facts were checked where the fault was made. */
function wordsFor(type: Type, facts: object): Words {
  return (text.faults[type] as (facts: object) => Words)(facts)
}
