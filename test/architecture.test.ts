/**
 * The house rules that a reader of the sources can check: which way imports point, what the core may use, and what
 * nobody leaves lying about. Each failure prints file:line. The rules' reasons stand in README.md and protocol/README.md.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  filesOf,
  type Import,
  linesWith,
  readSources,
  root,
  type Source,
} from './support/sources.ts'

const sources = readSources()
const byPath = new Map(sources.map((source) => [source.path, source]))
const readJson = (path: string) => JSON.parse(readFileSync(join(root, path), 'utf8'))

const inFolder = (...folders: string[]) =>
  sources.filter(({ path }) => folders.some((folder) => path.startsWith(folder)))
const hosts = inFolder('node/', 'browser/', 'bootstrap/')
const shipped = [...hosts, ...inFolder('protocol/')]

/** What peers agree on: everything in protocol/ but what a host brings, and what ties both together. */
const core = inFolder('protocol/').filter(
  ({ path }) => !/^protocol\/(ports\/|engine\/|swarm\.ts|index\.ts)/.test(path),
)
/** The core of the core: arithmetic and decisions that run anywhere, bit for bit. */
const pure = core.filter(({ path }) =>
  /^protocol\/(peer\.ts|peer\/|aggregate\/|codec\/|params\.ts|optimizer\.ts|random\.ts|errors\.ts)/.test(
    path,
  ),
)

/** `file:line imports target` for each import that breaks a rule. */
function offences(files: Source[], breaks: (found: Import, source: Source) => boolean): string[] {
  return files.flatMap((source) =>
    source.imports
      .filter((found) => breaks(found, source))
      .map((found) => `${source.path}:${found.line} imports ${found.target}`),
  )
}

function lines(files: Source[], pattern: RegExp, where: 'code' | 'text' = 'code'): string[] {
  return files.flatMap((source) => linesWith(source, pattern, where))
}

/** All of our own files that these import at run time, directly or through others. */
function reachedFrom(paths: string[]): Set<string> {
  const reached = new Set<string>()
  const visit = (path: string): void => {
    if (reached.has(path)) return
    reached.add(path)
    for (const { target, typeOnly } of byPath.get(path)?.imports ?? []) if (!typeOnly) visit(target)
  }
  paths.forEach(visit)
  return reached
}

describe('imports point one way', () => {
  test('every import of our own names a file that exists', () => {
    const ours = (found: Import) => found.package === undefined && !found.target.startsWith('node:')
    const files = new Set(filesOf(() => true))
    const isThere = (path: string) =>
      files.has(path) || path === 'package.json' || path.startsWith('dist/')
    expect(offences(sources, (found) => ours(found) && !isThere(found.target))).toEqual([])
  })

  test('no file imports itself through others', () => {
    expect(cycles()).toEqual([])
  })

  test('protocol imports no host and no test', () => {
    expect(
      offences(inFolder('protocol/'), ({ target }) =>
        /^(node|browser|bootstrap|test)\//.test(target),
      ),
    ).toEqual([])
  })

  test('hosts never import each other, nor a test', () => {
    const host = (path: string) => path.split('/')[0]!
    expect(
      offences(hosts, ({ target }, { path }) => {
        return /^(node|browser|bootstrap|test)\//.test(target) && host(target) !== host(path)
      }),
    ).toEqual([])
  })

  // The index brings the swarm, and with it libp2p. By path come the shapes of things, for what has to load without (the
  // command line's first screen, what reads data, the workers), and the ports, which are what a host builds.
  test('node and browser import peers, rules, codecs and the swarm through the index of protocol', () => {
    const inside = /^protocol\/(peer|aggregate|codec|engine|swarm|envelope)/
    expect(offences(inFolder('node/', 'browser/'), ({ target }) => inside.test(target))).toEqual([])
  })

  test('bootstrap imports listings, cards, manifests, envelopes, errors and two ports, by path', () => {
    const allowed =
      /^protocol\/((listing|message|manifest|envelope|errors)\.ts|ports\/(libp2p\.ts|registry\.ts|runtime\.js))$/
    expect(
      offences(inFolder('bootstrap/'), ({ target }) => {
        return target.startsWith('protocol/') && !allowed.test(target)
      }),
    ).toEqual([])
  })

  test('bootstrap cannot see a param: nothing it loads reads, averages or moves one', () => {
    const reached = reachedFrom(inFolder('bootstrap/').map(({ path }) => path))
    const params =
      /^protocol\/(aggregate\/|codec\/|peer|swarm|ports\/(network|transfer|store|trainer\/))/
    expect([...reached].filter((path) => params.test(path))).toEqual([])
  })

  test('the core imports neither ports nor swarm', () => {
    expect(
      offences(core, ({ target }) =>
        /^protocol\/(ports\/|engine\/|swarm\.ts|index\.ts)/.test(target),
      ),
    ).toEqual([])
  })

  test('the engine imports itself, params, optimizers, chance and errors: no port, and no package', () => {
    const allowed = /^protocol\/(engine\/|(params|optimizer|random|errors)\.ts$)/
    const files = inFolder('protocol/engine/').filter(
      ({ path }) => path !== 'protocol/engine/build.ts', // a tool: it reads the kernels and calls their compiler
    )
    expect(offences(files, ({ target }) => !allowed.test(target))).toEqual([])
  })

  test('the engine and its tests load nothing of libp2p', () => {
    const paths = inFolder('protocol/engine/', 'test/protocol/engine/', 'test/support/engine.ts')
    const reached = reachedFrom(paths.map(({ path }) => path))
    const files = sources.filter(({ path }) => reached.has(path))
    const network = /^(@?libp2p\b|@chainsafe\/|@multiformats\/|helia$|@helia\/)/
    expect(
      offences(files, ({ typeOnly, package: name = '' }) => !typeOnly && network.test(name)),
    ).toEqual([])
  })

  test('ports import neither swarm nor the index', () => {
    expect(
      offences(inFolder('protocol/ports/'), ({ target }) =>
        /^protocol\/(swarm|index)\.ts$/.test(target),
      ),
    ).toEqual([])
  })
})

describe('the core runs anywhere', () => {
  test('it imports a few small libraries at run time, nothing else and nothing of Node', () => {
    const allowed = [
      'multiformats',
      '@ipld/dag-cbor',
      'valibot',
      'uint8arrays',
      '@libp2p/crypto',
      '@libp2p/peer-record',
      '@libp2p/peer-id',
    ]
    expect(
      offences(core, (found) => {
        if (found.typeOnly) return false
        return (
          found.target.startsWith('node:') ||
          (found.package !== undefined && !allowed.includes(found.package))
        )
      }),
    ).toEqual([])
  })

  test('deciding and averaging import no package at all', () => {
    expect(
      offences(pure, (found) => found.package !== undefined || found.target.startsWith('node:')),
    ).toEqual([])
  })

  test('it touches no Node and no page', () => {
    const globals =
      /(?<![.\w])(process|Buffer|window|document|navigator|localStorage|indexedDB|fetch)\s*[.([]/
    expect(lines(core, globals)).toEqual([])
  })

  test('deciding, averaging and encoding ask no clock and throw no dice', () => {
    const files = [...pure, ...core.filter(({ path }) => path === 'protocol/message.ts')]
    const chance =
      /\b(Date\.now|new Date|Math\.random|performance\.now|setTimeout|setInterval|queueMicrotask)\b|(?<![.\w])crypto\./
    expect(lines(files, chance)).toEqual([])
  })

  test('protocol writes to no console', () => {
    const files = inFolder('protocol/').filter(({ path }) => path !== 'protocol/ports/runtime.js')
    expect(lines(files, /\bconsole\.|process\.std(out|err)/)).toEqual([])
  })

  test('ports run everywhere too: Node, its modules and native packages come in from the host', () => {
    const native = ['node-datachannel', 'classic-level', 'datastore-level', 'blockstore-fs']
    const files = inFolder('protocol/ports/').filter(
      ({ path }) => path !== 'protocol/ports/runtime.js',
    )
    expect(
      offences(files, (found) => {
        if (found.typeOnly) return false
        return found.target.startsWith('node:') || native.includes(found.package ?? '')
      }),
    ).toEqual([])
  })

  test('TensorFlow.js is imported only by the trainer port', () => {
    const files = shipped.filter(({ path }) => !path.startsWith('protocol/ports/trainer/'))
    expect(offences(files, (found) => found.package?.startsWith('@tensorflow/') === true)).toEqual(
      [],
    )
  })
})

describe('training data stays where it is', () => {
  const network =
    /^protocol\/(swarm\.ts|envelope\.ts|ports\/(network|registry|libp2p|store|transfer)\b)/
  const isData = (path: string) => /^(node|browser)\/data(\.ts|\/)/.test(path)

  test('what reads a dataset loads nothing that reaches the network', () => {
    const reached = reachedFrom(sources.map(({ path }) => path).filter(isData))
    expect([...reached].filter((path) => network.test(path))).toEqual([])
  })

  test('what reaches the network loads nothing that reads a dataset', () => {
    const doors = sources
      .map(({ path }) => path)
      .filter((path) => network.test(path) || /^(node|browser|bootstrap)\/host\.ts$/.test(path))
    expect([...reachedFrom(doors)].filter(isData)).toEqual([])
  })

  test('the worker, which holds the data, loads nothing that reaches the network', () => {
    const reached = reachedFrom(
      ['node/worker.ts', 'browser/worker.ts'].filter((path) => byPath.has(path)),
    )
    expect([...reached].filter((path) => network.test(path))).toEqual([])
  })

  test('nothing evaluates text as code', () => {
    expect(
      lines(shipped, /\beval\(|\bnew Function\(|\bimport\(\s*[^'"\s)]/).filter(notOurBin),
    ).toEqual([])
  })

  /** The bins' one computed import: their own source or their own bundle. */
  function notOurBin(line: string): boolean {
    return !line.startsWith('protocol/ports/runtime.js:')
  }
})

describe('the simulator', () => {
  const simulator = inFolder('test/sim/')

  test('takes codecs and aggregators from their tables', () => {
    const rule = /^protocol\/(codec|aggregate)\/(?!table\.ts|codec\.ts|aggregator\.ts|momentum\.ts)/
    expect(offences(simulator, ({ target, typeOnly }) => !typeOnly && rule.test(target))).toEqual(
      [],
    )
  })

  test('holds no averaging arithmetic of its own', () => {
    expect(lines(simulator, /\b(add\w*Into|axpyInto|scaleInto|mix\w*Into|settleInto)\(/)).toEqual(
      [],
    )
  })

  test('asks no clock and throws no dice but its seed', () => {
    const files = simulator.filter(({ path }) => path !== 'test/sim/run.ts')
    expect(lines(files, /\b(Date\.now|Math\.random|setTimeout|setInterval)\b/)).toEqual([])
  })
})

describe('tidy', () => {
  test('nothing is left for later', () => {
    const notes = filesOf((path) => /\.(ts|js|vue|md|css|html)$/.test(path)).filter(
      (path) => path !== 'test/architecture.test.ts',
    )
    const pattern = /\b(TODO|FIXME|XXX|HACK)\b/
    expect(notes.flatMap((path) => linesWith(plain(path), pattern, 'text'))).toEqual([])
  })

  test('no test is skipped, singled out or left to be written', () => {
    expect(
      lines(inFolder('test/'), /\b(test|it|describe|suite)\.(only|skip|todo|fails)\b/),
    ).toEqual([])
  })

  test('no test sleeps', () => {
    const tests = inFolder('test/').filter(({ path }) => path.endsWith('.test.ts'))
    expect(offences(tests, ({ target }) => target === 'node:timers/promises')).toEqual([])
    expect(lines(tests, /setTimeout\((resolve|done|r)\b/)).toEqual([])
  })

  test('TypeScript is erasable: no enum, no namespace, no parameter property', () => {
    const pattern =
      /^\s*(export\s+)?(const\s+|declare\s+)?(enum|namespace)\s+\w+\s*\{|constructor\([^)]*\b(private|public|protected|readonly)\s/
    expect(lines(sources, pattern)).toEqual([])
  })

  test('types are named: no any', () => {
    expect(lines(sources, /[:<,|]\s*any\b(?!\()|\bas any\b/)).toEqual([])
  })

  test('exports are named', () => {
    const files = sources.filter(
      ({ path }) => !/\.config\.ts$|\.vue$|^test\/support\/tally\.ts$/.test(path),
    )
    expect(lines(files, /^\s*export default\b|\bas default\b/)).toEqual([])
  })

  // By the name alone: one that stands elsewhere with another meaning hides it, and nothing is accused wrongly.
  test('nothing is exported for tests alone', () => {
    const files = shipped.filter(({ path }) => !path.startsWith('protocol/engine/kernels/'))
    const words = new Map<string, number>()
    for (const { code } of shipped)
      for (const [word] of code.matchAll(/[\w$]+/g)) words.set(word, (words.get(word) ?? 0) + 1)
    const exported = /^export (?:async )?(?:function\*?|const|let|class|interface|type) (\w+)/gm
    const alone = files.flatMap(({ path, code }) =>
      [...code.matchAll(exported)]
        .filter(([, name]) => words.get(name!) === 1)
        .map(([, name]) => `${path} exports ${name}`),
    )
    expect(alone).toEqual([])
  })

  test('relative imports name the .ts file', () => {
    const ours = (found: Import) => found.package === undefined && !found.target.startsWith('node:')
    expect(
      offences(
        sources,
        (found) => ours(found) && !/\.(ts|js|json|vue|css|wasm)$/.test(found.target),
      ),
    ).toEqual([])
  })

  test('no file names a path of one machine', () => {
    const pattern = /(?<![\w.])\/(work|root|home\/\w+|Users\/\w+|tmp\/\w+)\/|\b[A-Z]:\\\\/
    const files = filesOf((path) => /\.(ts|js|vue|md|json|css|html)$/.test(path)).filter(
      (path) => path !== 'test/architecture.test.ts',
    )
    expect(
      [...files, 'package.json', 'package-lock.json'].flatMap((path) =>
        linesWith(plain(path), pattern, 'text'),
      ),
    ).toEqual([])
  })
})

describe('packages', () => {
  const manifest = readJson('package.json')
  const lock = readJson('package-lock.json').packages as Record<
    string,
    { version?: string; name?: string; resolved?: string; link?: boolean }
  >

  test('every package that is imported is one we ask for', () => {
    const asked = { ...manifest.dependencies, ...manifest.devDependencies }
    expect(
      offences(sources, (found) => found.package !== undefined && !(found.package in asked)),
    ).toEqual([])
  })

  test('every version is exact', () => {
    const asked = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })
    expect(
      asked.filter(
        ([, version]) =>
          !/^(\d+\.\d+\.\d+(-[\w.]+)?|npm:[\w-]+@\d+\.\d+\.\d+|file:node\/runtime)$/.test(
            version as string,
          ),
      ),
    ).toEqual([])
  })

  test('who installs ml-store gets the two native packages and nothing else', () => {
    expect(Object.keys(manifest.dependencies).sort()).toEqual(['classic-level', 'node-datachannel'])
    expect(manifest.optionalDependencies ?? manifest.peerDependencies).toBeUndefined()
  })

  test('packages whose age is a danger are young enough', () => {
    const floors = {
      '@libp2p/gossipsub': '17.1.1', // subscription flood, unbounded control messages, unbound RSA keys
      libp2p: '3.3.11',
      '@chainsafe/libp2p-noise': '17.0.0',
      '@libp2p/yamux': '8.0.3',
      'node-datachannel': '0.33.4',
    }
    const found = Object.entries(floors).flatMap(([name, floor]) =>
      Object.entries(lock)
        .filter(
          ([path, { version }]) => path.endsWith(`node_modules/${name}`) && older(version!, floor),
        )
        .map(([path, { version }]) => `${path} is ${version}, expected ${floor} or newer`),
    )
    expect(found).toEqual([])
    expect(
      Object.keys(lock).filter((path) => path.endsWith('@chainsafe/libp2p-gossipsub')),
    ).toEqual([])
  })

  test('the lock file names no host, and no react-native', () => {
    expect(
      Object.entries(lock).filter(
        ([, { resolved, link }]) => resolved !== undefined && link !== true,
      ),
    ).toEqual([])
    const named = Object.entries(lock).map(
      ([path, { name }]) => name ?? path.split('node_modules/').at(-1)!,
    )
    expect(named.filter((name) => /react-native/.test(name))).toEqual([])
  })

  test('the oldest Node is the same number everywhere', () => {
    const [, major, minor] = manifest.engines.node.match(/^>=(\d+)\.(\d+)$/)
    expect(byPath.get('protocol/ports/runtime.js')?.text).toContain(`OLDEST = [${major}, ${minor}]`)
    expect(byPath.get('node/bundle.ts')?.text).toContain(`node${major}.${minor}`)
  })
})

function older(version: string, floor: string): boolean {
  return version.localeCompare(floor, 'en', { numeric: true }) < 0
}

/** Any file as a source, for rules about text alone. */
function plain(path: string): Source {
  const text = readFileSync(join(root, path), 'utf8')
  return { path, text, code: text, imports: [] }
}

/** Each cycle once, from the file where a walk through the run-time imports first met it. */
function cycles(): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const walk = (path: string, trail: string[]): void => {
    if (trail.includes(path)) found.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
    if (done.has(path) || trail.includes(path)) return
    for (const { target, typeOnly } of byPath.get(path)?.imports ?? []) {
      if (!typeOnly) walk(target, [...trail, path])
    }
    done.add(path)
  }
  for (const { path } of sources) walk(path, [])
  return found
}
