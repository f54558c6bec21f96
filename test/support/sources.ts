import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One import statement, `export ... from` and `import()` included. */
export interface Import {
  line: number
  /** A path from the root for our own files (`protocol/peer.ts`), else the specifier as written. */
  target: string
  /** `@libp2p/crypto` for `@libp2p/crypto/keys`; undefined for our own files and for Node's. */
  package?: string
  /** `import type`, `export type`: gone at run time. */
  typeOnly: boolean
}

export interface Source {
  /** From the root, with forward slashes. */
  path: string
  text: string
  /** The text with comments and quoted strings blanked, line for line; template strings stay. */
  code: string
  imports: Import[]
}

export const root = fileURLToPath(new URL('../..', import.meta.url))

const folders = ['protocol', 'node', 'browser', 'bootstrap', 'test']

/** All sources of our own, TypeScript and the few plain JavaScript files. */
export function readSources(): Source[] {
  return filesOf((path) => /\.(ts|js|vue)$/.test(path)).map(sourceOf)
}

/** Paths from the root of all files in our folders that `wanted` takes. */
export function filesOf(wanted: (path: string) => boolean): string[] {
  const paths = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/')),
  )
  return paths.filter((path) => !path.includes('node_modules/') && wanted(path)).sort()
}

/** `file:line: text` of every line of the code that the pattern meets. */
export function linesWith(
  source: Source,
  pattern: RegExp,
  where: 'code' | 'text' = 'code',
): string[] {
  const texts = source.text.split('\n')
  return source[where]
    .split('\n')
    .flatMap((line, index) =>
      pattern.test(line) ? [`${source.path}:${index + 1}: ${texts[index]!.trim()}`] : [],
    )
}

function sourceOf(path: string): Source {
  const text = readFileSync(join(root, path), 'utf8')
  return {
    path,
    text,
    code: blank(text, 'strings'),
    imports: importsOf(path, blank(text, 'comments')),
  }
}

/** Alternatives in the order a scanner would try them; a regular expression stands only where a value may begin. */
const tokens = new RegExp(
  [
    String.raw`(?<comment>\/\*[\s\S]*?\*\/|\/\/[^\n]*)`,
    String.raw`(?<string>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")`,
    String.raw`(?<template>\x60(?:\\.|\$\{(?:[^{}\x60]|\x60[^\x60]*\x60|\{[^{}]*\})*\}|[^\x60\\])*\x60)`,
    String.raw`(?<regex>(?<=(?:[=(,:[!&|?{};\n]|return|=>)\s*)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[dgimsuvy]*)`,
  ].join('|'),
  'g',
)

function blank(text: string, what: 'comments' | 'strings'): string {
  return text.replace(tokens, (token, ...rest) => {
    const { comment, string } = rest.at(-1) as Record<string, string | undefined>
    const gone = comment !== undefined || (string !== undefined && what === 'strings')
    return gone ? token.replace(/[^\n]/g, ' ') : token
  })
}

const statement = /^[ \t]*(?:import|export)\s+(type\s)?(?:[\w*{}\s,$]*?\sfrom\s*)?'([^']+)'/gm
const dynamic = /\bimport\(\s*'([^']+)'/g

function importsOf(path: string, code: string): Import[] {
  const found = [
    ...[...code.matchAll(statement)].map((at) => ({
      at,
      name: at[2]!,
      typeOnly: at[1] !== undefined,
    })),
    ...[...code.matchAll(dynamic)].map((at) => ({ at, name: at[1]!, typeOnly: false })),
  ]
  return found.map(({ at, name: asked, typeOnly }) => {
    const name = asked.replace(/\?.*$/, '') // how Vite is to load it
    const line = code.slice(0, at.index + at[0].indexOf("'")).split('\n').length
    if (name.startsWith('.')) return { line, target: posix.join(dirname(path), name), typeOnly }
    if (name.startsWith('node:')) return { line, target: name, typeOnly }
    return { line, target: name, package: packageOf(name), typeOnly }
  })
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
}
