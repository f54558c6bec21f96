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
  const rows = text.matchAll(
    /^\| ([^|]+) \| ([\d,.e-]+)(?: bytes| ms)? \| `([^`]+)` `([^`]+)` \|$/gm,
  )
  return [...rows].map(([, limit, value, file, name]) => ({
    limit: limit!,
    value: Number(value!.replaceAll(',', '')),
    file: file!,
    name: name!,
  }))
}

/** What stands in back quotes in the first column of the table with this header, whose first row begins with `first`. */
export function firstColumn(header: string, first = ''): string[] {
  const tables = text.split(`\n${header}\n`).slice(1)
  const table = tables.map(rowsOf).find(([start]) => start?.startsWith(`| ${first}`))
  if (!table) throw new Error(`protocol/README.md has no table "${header}"`)
  return table.flatMap((line) => quoted(line.split('|')[1]!))
}

/** What stands in back quotes in each column of the first row about `name`. */
export function row(name: string): string[][] {
  const line = text.split('\n').find((line) => line.startsWith(`| \`${name}\` |`))
  if (!line) throw new Error(`protocol/README.md has no row about ${name}`)
  return line.split('|').slice(1, -1).map(quoted)
}

/** Whether the page says exactly this. */
export function mentions(phrase: string): boolean {
  return text.includes(phrase)
}

function rowsOf(table: string): string[] {
  return table.split('\n\n')[0]!.split('\n').slice(1)
}

function quoted(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name!)
}
