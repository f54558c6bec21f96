/**
 * A card's README as blocks of plain text: what a stranger wrote never becomes markup, only text inside our own elements.
 * The few forms that model cards use are known; everything else is shown as it was typed.
 */
export type Block =
  | { type: 'heading'; level: number; spans: Span[] }
  | { type: 'paragraph'; spans: Span[] }
  | { type: 'list'; items: Span[][] }
  | { type: 'code'; text: string }

export type Span =
  | { type: 'text'; text: string }
  | { type: 'strong'; text: string }
  | { type: 'code'; text: string }
  /** `href` is http or https, nothing else. */
  | { type: 'link'; text: string; href: string }

/** A card longer than this is cut. */
const MAX_CHARACTERS = 100_000

export function readMarkdown(source: string): Block[] {
  const lines = withoutFrontMatter(source.slice(0, MAX_CHARACTERS)).split(/\r?\n/)
  const blocks: Block[] = []
  for (let at = 0; at < lines.length; ) at = readBlockInto(blocks, lines, at)
  return blocks
}

/** Reads one block from line `at` on; gives the line after it. */
function readBlockInto(blocks: Block[], lines: readonly string[], at: number): number {
  const line = lines[at]!
  if (line.trim() === '') return at + 1
  const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line)
  if (heading) {
    blocks.push({ type: 'heading', level: heading[1]!.length, spans: readSpans(heading[2]!) })
    return at + 1
  }
  if (/^\s*(```|~~~)/.test(line)) {
    const fence = line.trim().slice(0, 3)
    const end = endOf(lines, at + 1, (next) => next.trim().startsWith(fence))
    blocks.push({ type: 'code', text: lines.slice(at + 1, end).join('\n') })
    return end + 1
  }
  if (isItem(line)) {
    const end = endOf(lines, at, (next) => next.trim() === '' || startsOther(next))
    const items: string[] = []
    for (const next of lines.slice(at, end)) {
      if (isItem(next)) items.push(next.replace(ITEM, ''))
      else items[items.length - 1] += ` ${next.trim()}`
    }
    blocks.push({ type: 'list', items: items.map(readSpans) })
    return end
  }
  const end = endOf(
    lines,
    at + 1,
    (next) => next.trim() === '' || startsOther(next) || isItem(next),
  )
  blocks.push({ type: 'paragraph', spans: readSpans(lines.slice(at, end).join(' ')) })
  return end
}

const ITEM = /^\s*([-*+]|\d{1,3}[.)])\s+/
const isItem = (line: string) => ITEM.test(line)
const startsOther = (line: string) => /^(#{1,6}\s|\s*(```|~~~))/.test(line)

function endOf(lines: readonly string[], from: number, ends: (line: string) => boolean): number {
  const at = lines.findIndex((line, i) => i >= from && ends(line))
  return at < 0 ? lines.length : at
}

/** `**strong**`, `` `code` `` and `[text](address)`; all else is text. */
export function readSpans(text: string): Span[] {
  const spans: Span[] = []
  let end = 0
  for (const found of text.matchAll(/\*\*([^*]+)\*\*|`([^`]+)`|\[([^\]]*)\]\(([^)\s]*)[^)]*\)/g)) {
    if (found.index > end) spans.push({ type: 'text', text: text.slice(end, found.index) })
    end = found.index + found[0].length
    const [, strong, code, label, address] = found
    if (strong !== undefined) spans.push({ type: 'strong', text: strong })
    else if (code !== undefined) spans.push({ type: 'code', text: code })
    else spans.push(linkOf(label!, address!))
  }
  if (end < text.length) spans.push({ type: 'text', text: text.slice(end) })
  return spans
}

function linkOf(text: string, address: string): Span {
  const url = URL.parse(address)
  if (url && (url.protocol === 'https:' || url.protocol === 'http:')) {
    return { type: 'link', text: text || url.host, href: url.href }
  }
  return { type: 'text', text }
}

function withoutFrontMatter(text: string): string {
  return text.replace(/^---\r?\n[\s\S]*?\r?\n---\r?\n/, '')
}
