import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { executablePath } from './chromium.ts'

/** A Chromium of its own, spoken to over its debugging protocol: under Playwright no tab is ever hidden. */
export interface PlainChromium {
  /** Opens an address in a new tab, in front of the others. */
  open(address: string): Promise<PlainTab>
  end(): Promise<void>
}

export interface PlainTab {
  /** The value of an expression in the page. */
  evaluate<T>(expression: string): Promise<T>
}

export async function openPlainChromium(): Promise<PlainChromium> {
  const folder = await mkdtemp(join(tmpdir(), 'ml-store-chromium-'))
  const child = spawn(
    executablePath!,
    [
      '--headless=new',
      '--no-sandbox',
      '--no-first-run',
      '--remote-debugging-port=0',
      `--user-data-dir=${folder}`,
      'about:blank',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const port = await portOf(child)
  return {
    async open(address) {
      const asked = `http://127.0.0.1:${port}/json/new?${encodeURIComponent(address)}`
      const made = (await (await fetch(asked, { method: 'PUT' })).json()) as Target
      await fetch(`http://127.0.0.1:${port}/json/activate/${made.id}`)
      return { evaluate: (expression) => evaluateIn(made, expression) }
    },
    async end() {
      const closed = new Promise((resolve) => child.once('close', resolve))
      child.kill('SIGKILL')
      await closed
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

interface Target {
  id: string
  webSocketDebuggerUrl: string
}

function portOf({ stderr }: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    stderr!.on('data', (said: Buffer) => {
      const address = /ws:\/\/\S+/.exec(String(said))
      if (address) resolve(new URL(address[0]).port)
    })
  })
}

/** Chrome DevTools Protocol, Runtime.evaluate. */
function evaluateIn<T>({ webSocketDebuggerUrl }: Target, expression: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(webSocketDebuggerUrl)
    socket.onerror = () => reject(new Error(`no answer at ${webSocketDebuggerUrl}`))
    socket.onopen = () => {
      const params = { expression, returnByValue: true, awaitPromise: true }
      socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params }))
    }
    socket.onmessage = ({ data }) => {
      socket.close()
      const { result } = JSON.parse(String(data)) as {
        result?: { result: { value: T }; exceptionDetails?: unknown }
      }
      if (result === undefined) reject(new Error(`no result: ${String(data)}`))
      else if (result.exceptionDetails) reject(new Error(JSON.stringify(result.exceptionDetails)))
      else resolve(result.result.value)
    }
  })
}
