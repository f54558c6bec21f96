import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium } from 'playwright-core'
import { build } from 'vite'
import type { Answer, Request } from './engine/worker.ts'

/** Debian's names first; undefined where there is none. */
export const executablePath = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find(existsSync)

/** Says which tests are skipped where there is none; where CI is set that is no skip but a failure. */
export function requireChromium(what: string): void {
  if (executablePath) return
  const cause = `${what}: skipped, no Chromium is installed; npm run browser:install installs one`
  if (process.env.CI) throw new Error(cause)
  console.warn(cause)
}

/**
 * What a window of Chromium loads beside its page: the popup of its address bar is a page of its own, and takes almost as
 * much CPU time as ours. A second switch replaces playwright's own, so what of that concerns pages on loopback stands here, too.
 */
const withoutFeatures = [
  ...['WebUIOmniboxAimPopup', 'WebUIOmniboxPopup', 'WebUIOmniboxFullPopup'],
  ...['PreloadTopChromeWebUI', 'InitialWebUI'],
  ...['HttpsUpgrades', 'HttpsFirstBalancedModeAutoEnable', 'ThirdPartyStoragePartitioning'],
  ...['AvoidUnnecessaryBeforeUnloadCheckSync', 'DestroyProfileOnBrowserClose', 'PaintHolding'],
  ...['AvoidCorsURLLoaderRestartOnRedirect', 'LensOverlay', 'MediaRouter'],
  ...['OptimizationHints', 'NetworkTimeServiceQuerying', 'AimEnabled', 'PreconnectToSearch'],
].join(',')

/** Starts the installed Chromium without a window. */
export function launchChromium(args: readonly string[] = []): Promise<Browser> {
  return chromium.launch({
    executablePath: executablePath!,
    args: [`--disable-features=${withoutFeatures}`, ...args],
  })
}

/** The engine's page in Chromium, twice: where memory may be shared, and where it may not. */
export interface EnginePages {
  isolated: Ask
  plain: Ask
  /** Chromium's. */
  version: string
  end(): Promise<void>
}

export type Ask = (request: Request) => Promise<Answer>

const types: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
}
/** What makes a page cross-origin isolated, so that it has SharedArrayBuffer. */
const isolation = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
}

/** Chromium's WebGL and WebGPU on the processor. Where there is a GPU, this keeps it out of the tests. */
const softwareGpu = [
  '--use-angle=swiftshader',
  '--enable-unsafe-swiftshader',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  '--use-vulkan=swiftshader',
]

/** Bundles the page as a browser gets it, serves it on loopback and opens it. */
export async function openEnginePages(): Promise<EnginePages> {
  const folder = await mkdtemp(join(tmpdir(), 'ml-store-page-'))
  await bundle(new URL('./engine', import.meta.url), folder)
  const servers = await Promise.all([serve(folder, isolation), serve(folder, {})])
  const browser = await launchChromium(softwareGpu)
  const [isolated, plain] = await Promise.all(servers.map(open))
  return {
    isolated: isolated!,
    plain: plain!,
    version: browser.version(),
    async end() {
      await browser.close()
      for (const server of servers) server.close()
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }

  async function open(server: Server): Promise<Ask> {
    const page = await (await browser.newContext()).newPage()
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    return (request) =>
      page.evaluate((request) => (globalThis as unknown as { ask: Ask }).ask(request), request)
  }
}

/** Bundles a page of the tests' own as a browser gets it. */
export async function bundle(source: URL, folder: string): Promise<void> {
  await build({
    root: fileURLToPath(source),
    configFile: false,
    logLevel: 'warn',
    build: { outDir: folder, emptyOutDir: true, target: 'esnext', chunkSizeWarningLimit: 2000 },
    worker: { format: 'es' },
  })
}

function serve(folder: string, headers: Record<string, string>): Promise<Server> {
  const server = createServer(async ({ url = '/' }, response) => {
    const path = new URL(url, 'http://localhost').pathname
    const name = path === '/' ? '/index.html' : path
    const type = types[extname(name)] ?? 'application/octet-stream'
    const contents = await readFile(join(folder, name)).catch(() => undefined)
    response.writeHead(contents ? 200 : 404, { 'Content-Type': type, ...headers }).end(contents)
  })
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)))
}
