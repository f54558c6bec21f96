import { readdir, readFile, stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Fault, faultFrom } from '../../protocol/errors.ts'
import { run } from './processes.ts'

/** The web page beside the swarm: built where it is older than its sources, and served to this machine. */

const root = fileURLToPath(new URL('../..', import.meta.url))
export const pageFolder = join(root, 'dist-page')

/** Folders whose files end up in the page. */
const SOURCES = ['browser', 'protocol', 'package-lock.json']
/** A person's bookmark, and what their browser keeps for this address, hold from one start to the next. */
const USUAL_PORT = 4880

export interface ServedPage {
  /** `http://127.0.0.1:4880/` */
  address: string
  close(): void
}

export interface ServeOptions {
  folder?: string
  /** Another where this one is taken. */
  port?: number
  /** PEM; with it the page comes over https. */
  tls?: { key: string; cert: string }
}

/** Builds the page unless it is newer than all that it is made of. Throws Fault `page-not-built`. */
export async function buildPage(): Promise<void> {
  const builtAt = await timeOf(join(pageFolder, 'index.html'))
  const changed = await Promise.all(SOURCES.map((name) => newestIn(join(root, name))))
  if (Math.max(...changed) < builtAt) return
  const config = join(root, 'browser/vite.config.ts')
  try {
    await run('vite', 'vite', ['build', '--config', config, '--logLevel', 'warn'])
  } catch (error) {
    throw new Fault(
      {
        kind: 'unexpected',
        type: 'page-not-built',
        message: `the page could not be built: ${faultFrom(error).message}`,
        hint: 'npm run build shows the whole of it',
      },
      error,
    )
  }
}

/** Serves the built page on loopback; `peers` are the addresses that it joins by. */
export async function servePage(
  peers: readonly string[],
  { folder = pageFolder, port = USUAL_PORT, tls }: ServeOptions = {},
): Promise<ServedPage> {
  const onRequest = async ({ url = '/' }: IncomingMessage, response: ServerResponse) => {
    const asked = new URL(url, 'http://localhost').pathname
    if (asked === '/peers.json') return answer(response, '.json', JSON.stringify(peers))
    const path = normalize(asked === '/' ? '/index.html' : asked)
    answer(response, extname(path), await readFile(join(folder, path)).catch(() => undefined))
  }
  const server = tls ? createSecureServer(tls, onRequest) : createServer(onRequest)
  await listen(server, port).catch(() => listen(server, 0))
  return {
    address: `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
}

/** Cross-origin isolated, so that the page may share memory between threads. */
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cache-Control': 'no-cache',
  'X-Content-Type-Options': 'nosniff',
}

function answer(
  response: ServerResponse,
  extension: string,
  contents: Uint8Array | string | undefined,
): void {
  const type = types[extension] ?? 'application/octet-stream'
  response.writeHead(contents === undefined ? 404 : 200, { 'Content-Type': type, ...headers })
  response.end(contents)
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject)
      resolve()
    })
  })
}

async function timeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
}

async function newestIn(path: string): Promise<number> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile())
  const times = await Promise.all(
    files.length > 0
      ? files.map((entry) => timeOf(join(entry.parentPath, entry.name)))
      : [timeOf(path)],
  )
  return Math.max(...times)
}
