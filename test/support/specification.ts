import { readFileSync } from 'node:fs'

/** protocol/README.md as data: its named blocks and its table of limits. */
const text = readFileSync(new URL('../../protocol/README.md', import.meta.url), 'utf8')

/** The text of a fenced block, such as ```hex offer, without white space. */
export function block(kind: 'hex' | 'json', name: string): string {
  const found = text.match(new RegExp(`^\`\`\`${kind} ${name}\\n([^\`]*)\`\`\`$`, 'm'))
  if (!found) throw new Error(`protocol/README.md has no block "${kind} ${name}"`)
  return found[1]!.replace(/\s+/g, '')
}

export function bytesOf(name: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(block('hex', name), 'hex'))
}

export function paramsOf(name: string): Float32Array<ArrayBuffer> {
  return Float32Array.from(JSON.parse(block('json', name)))
}

/** Names of all blocks of a kind, in order. */
export function blockNames(kind: 'hex' | 'json'): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${kind} (\\S+)$`, 'gm'))].map(([, name]) => name!)
}

/** Rows of the limits table: what the page says, and where the code says it. */
export function limits(): { limit: string; value: number; file: string; name: string }[] {
  const rows = text.matchAll(/^\| ([^|]+) \| ([\d,.e-]+)(?: bytes| ms)? \| `([^`]+)` `([^`]+)` \|$/gm)
  return [...rows].map(([, limit, value, file, name]) => ({
    limit: limit!,
    value: Number(value!.replaceAll(',', '')),
    file: file!,
    name: name!,
  }))
}

/** The first column of the table that follows a header, without its back quotes. */
export function firstColumn(header: string): string[] {
  const from = text.indexOf(`\n${header}\n`)
  if (from < 0) throw new Error(`protocol/README.md has no table "${header}"`)
  const lines = text.slice(from + 1).split('\n\n')[0]!.split('\n').slice(2)
  return lines.flatMap((line) => [...line.split('|')[1]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!))
}

export function mentions(phrase: string): boolean {
  return text.includes(phrase)
}
