/**
 * Version: an immutable directory, made from a draft and checked file by file.
 *
 *   README.md  model.json  group1-shard1of2.bin ...  labels.txt  mlstore.json  sample/ eval/
 *
 * A version is made in memory first and written or listed only when it passes its own check, so nothing
 * half-made is ever published. `checkVersion` is the one gate for a directory, a draft's result and a fetch.
 */
import { sha256 as sha256Hasher } from 'multiformats/hashes/sha2'
import { toString as textOf } from 'uint8arrays/to-string'
import { Fault } from '../errors.ts'
import type { FaultFacts } from '../facts.ts'
import {
  MANIFEST_FILE,
  type Manifest,
  type ManifestDraft,
  type ManifestFile,
  pathPattern,
  readManifest,
  writeManifest,
} from '../manifest.ts'
import { allFinite, sizeOf, type TensorSpec, tensorSize } from '../params.ts'
import { writeModelJson } from './trainer/model-json.ts'
import {
  frozenLayersOf,
  readTopology,
  type Topology,
  type TopologyLimits,
} from './trainer/topology.ts'

/** The files of a directory, read one at a time: a folder, the store, or a Map in memory. */
export interface VersionFiles {
  paths(): Promise<string[]>
  /** Throws a Fault of kind not-found when there is none. */
  read(path: string): Promise<Uint8Array>
}

/** A version that passed every check. */
export interface CheckedVersion {
  manifest: Manifest
  topology: Topology
  modelJson: string
  /** float32, little-endian, in tensor order: what is trained and swapped. */
  params: Uint8Array
  /** The same of frozen layers; empty when there are none. */
  frozen: Uint8Array
}

/** What an engineer brings: a model of TensorFlow.js, a manifest without what publishing fills in, and more files. */
export interface Draft {
  manifest: ManifestDraft
  modelJson: Uint8Array
  /** float32, little-endian, in model.json's order, frozen layers included. */
  params: Uint8Array
  /** README.md, labels.txt, sample/ and eval/, where it has them. */
  extra: Map<string, Uint8Array>
}

/** How TensorFlow.js cuts weights, so that browsers cache and resume by file. */
const SHARD_BYTES = 4 * 1024 * 1024
const FLOAT_BYTES = 4
const MODEL_FILE = 'model.json'
const LABELS_FILE = 'labels.txt'
export const README_FILE = 'README.md'

/**
 * The files of a version: model.json and shards rewritten from `draft`, card and labels made when missing,
 * manifest filled in with owner, tensors and files. The result has passed checkVersion.
 *
 * Throws a Fault of kind verification that names what is wrong with the draft.
 */
export async function makeVersion(
  draft: Draft,
  owner: string,
  limits: TopologyLimits,
): Promise<Map<string, Uint8Array>> {
  const topology = readTopology(draft.modelJson, limits)
  const files = new Map<string, Uint8Array>()
  const { params, frozen } = splitParams(topology, draft.params)
  const groups = [{ paths: putShards(files, params, 1), tensors: topology.tensors }]
  if (topology.frozen.length > 0)
    groups.push({ paths: putShards(files, frozen, 2), tensors: topology.frozen })
  const encoder = new TextEncoder()
  const { layers } = topology
  const modelJson = writeModelJson({ layers, groups, frozen: frozenLayersOf(topology) })
  files.set(MODEL_FILE, encoder.encode(modelJson))
  for (const [path, bytes] of draft.extra) files.set(path, bytes)
  const labels = draft.manifest.output?.labels
  if (!files.has(LABELS_FILE) && Array.isArray(labels))
    files.set(LABELS_FILE, encoder.encode(`${labels.join('\n')}\n`))
  if (!files.has(README_FILE)) files.set(README_FILE, encoder.encode(writeCard(draft.manifest)))
  files.set(MANIFEST_FILE, writeManifest(await filledIn(draft.manifest, owner, topology, files)))
  await checkVersion(filesOf(files), limits)
  return new Map([...files].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/**
 * Checks a version: its manifest, that its files are those and no others, their sizes and hashes, the model
 * against limits, and that manifest and model say the same of tensors, input and labels.
 *
 * Throws a Fault of kind verification that says what came and what was expected.
 */
export async function checkVersion(
  files: VersionFiles,
  limits: TopologyLimits,
): Promise<CheckedVersion> {
  const manifest = readManifest(await readFile(files, MANIFEST_FILE))
  checkPaths(await files.paths(), manifest)
  const modelBytes = await readChecked(files, fileOf(manifest, MODEL_FILE))
  const topology = checkModel(modelBytes, manifest, limits)
  for (const file of manifest.files) {
    if (file.path !== MODEL_FILE && !topology.paths.includes(file.path)) {
      const bytes = await readChecked(files, file)
      if (file.path === LABELS_FILE) checkLabels(bytes, manifest)
    }
  }
  const parts = await readParams(files, manifest, topology)
  const said = manifest.tensorsSha256
  const had = await tensorsHash(topology.tensors)
  if (said === undefined ? topology.frozen.length > 0 : said !== had)
    throw wrong(
      'wrong-tensors',
      { came: said ?? 'missing', expected: had },
      `tensorsSha256 is ${said ?? 'missing'}, expected ${had}`,
    )
  return { manifest, topology, modelJson: new TextDecoder().decode(modelBytes), ...parts }
}

/** SHA-256 over a line for each tensor, `name [shape] role`: peers that swap must have the same. */
function tensorsHash(tensors: readonly TensorSpec[]): Promise<string> {
  return sha256(new TextEncoder().encode(tensors.map((spec) => `${specText(spec)}\n`).join('')))
}

export function specText({ name, shape, role }: TensorSpec): string {
  return `${name} [${shape}] ${role}`
}

/** Bytes in model.json's order → those that are trained, and those of frozen layers. */
function splitParams(
  { groups, tensors, frozen }: Topology,
  bytes: Uint8Array,
): { params: Uint8Array; frozen: Uint8Array } {
  if (frozen.length === 0) return { params: bytes, frozen: new Uint8Array(0) }
  const learns = new Set(tensors.map(({ name }) => name))
  const [own, others]: [Uint8Array[], Uint8Array[]] = [[], []]
  let at = 0
  for (const tensor of groups.flatMap((group) => group.tensors)) {
    const end = at + FLOAT_BYTES * tensorSize(tensor)
    const to = learns.has(tensor.name) ? own : others
    to.push(bytes.subarray(at, end))
    at = end
  }
  if (at !== bytes.length) throw wrongLength(bytes.length, at)
  return { params: concat(own), frozen: concat(others) }
}

/** What splitParams took apart. */
function joinParams(
  { groups, tensors }: Topology,
  { params, frozen }: { params: Uint8Array; frozen: Uint8Array },
): Uint8Array {
  const learns = new Set(tensors.map(({ name }) => name))
  const at = { own: 0, others: 0 }
  return concat(
    groups
      .flatMap((group) => group.tensors)
      .map((tensor) => {
        const which = learns.has(tensor.name) ? 'own' : 'others'
        const start = at[which]
        at[which] += FLOAT_BYTES * tensorSize(tensor)
        return (which === 'own' ? params : frozen).subarray(start, at[which])
      }),
  )
}

/** What a version brings of its owner's data: `sample` to begin with, `eval` to measure on. Nothing where it names a CID. */
export async function dataFilesOf(
  { manifest }: Pick<CheckedVersion, 'manifest'>,
  files: VersionFiles,
  which: 'sample' | 'eval',
): Promise<{ path: string; bytes: Uint8Array }[]> {
  const place = manifest.data[which]
  if (place === undefined) return []
  const paths = manifest.files
    .map(({ path }) => path)
    .filter((path) => path === place || path.startsWith(`${place}/`))
  return Promise.all(paths.map(async (path) => ({ path, bytes: await files.read(path) })))
}

function putShards(files: Map<string, Uint8Array>, bytes: Uint8Array, group: number): string[] {
  const shards = [...shardsOf(bytes, group)]
  for (const [path, shard] of shards) files.set(path, shard)
  return shards.map(([path]) => path)
}

/** The model alone, before any shard is fetched: readable, within limits, and what the manifest says. */
export function checkModel(
  modelJson: Uint8Array,
  manifest: Manifest,
  limits: TopologyLimits,
): Topology {
  const topology = readTopology(modelJson, { ...limits, batchSize: manifest.train.batchSize })
  checkTensors('tensor', topology.tensors, manifest.tensors)
  checkTensors('frozen tensor', topology.frozen, manifest.frozen ?? [])
  checkInputAndOutput(topology, manifest)
  for (const path of topology.paths) fileOf(manifest, path)
  return topology
}

function checkTensors(
  what: string,
  tensors: readonly TensorSpec[],
  expected: readonly TensorSpec[],
): void {
  const [had, said] = [tensors.map(specText), expected.map(specText)]
  const different = had.findIndex((spec, i) => spec !== said[i])
  if (different < 0 && said.length === had.length) return
  const i = different >= 0 ? different : had.length
  const [came, wanted] = [had[i] ?? 'missing', said[i] ?? 'none']
  throw wrong(
    'wrong-tensors',
    { came, expected: wanted },
    `${what} ${i} is ${came} in model.json, expected ${wanted} as in ${MANIFEST_FILE}`,
  )
}

/** A Map in memory as VersionFiles. */
export function filesOf(files: ReadonlyMap<string, Uint8Array>): VersionFiles {
  return {
    paths: async () => [...files.keys()],
    read: async (path) => files.get(path) ?? missing(path),
  }
}

/** Params, cut as TensorFlow.js cuts them: group1-shard1ofN.bin of 4 MiB; frozen ones are group 2. */
export function* shardsOf(
  params: Uint8Array,
  group = 1,
): Generator<[path: string, bytes: Uint8Array]> {
  const count = Math.max(1, Math.ceil(params.length / SHARD_BYTES))
  for (let i = 0; i < count; i++) {
    yield [
      `group${group}-shard${i + 1}of${count}.bin`,
      params.subarray(i * SHARD_BYTES, (i + 1) * SHARD_BYTES),
    ]
  }
}

/** Reads a draft: mlstore.json and model.json with its shards, and every other file as it is. */
export async function readDraft(files: VersionFiles): Promise<Draft> {
  const manifest = readDraftManifest(await readFile(files, MANIFEST_FILE))
  const modelJson = await readFile(files, MODEL_FILE)
  const { paths } = readTopology(modelJson, { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 })
  const shards: Uint8Array[] = []
  for (const path of paths) shards.push(await readFile(files, path))
  const extra = new Map<string, Uint8Array>()
  for (const path of await files.paths()) {
    if (path === MANIFEST_FILE || path === MODEL_FILE || paths.includes(path)) continue
    if (!pathPattern.test(path)) throw wrongPath(path)
    extra.set(path, await readFile(files, path))
  }
  return { manifest, modelJson, params: concat(shards), extra }
}

/**
 * A child of a version with new params: what `release` makes. The owner's own card is kept; a card we
 * generated is generated anew, with the new figures.
 */
export async function makeChild(
  parent: { cid: string; files: VersionFiles; checked: CheckedVersion },
  change: { version: string; params: Uint8Array; metrics?: Manifest['metrics'] },
  owner: string,
  limits: TopologyLimits,
): Promise<Map<string, Uint8Array>> {
  const { manifest, modelJson, topology, frozen } = parent.checked
  const { metrics: _metrics, ...kept } = draftOf(manifest)
  const draft: ManifestDraft = {
    ...kept,
    version: change.version,
    genesis: manifest.genesis ?? parent.cid,
    parents: [parent.cid],
    ...(change.metrics === undefined ? {} : { metrics: change.metrics }),
  }
  const extra = new Map<string, Uint8Array>()
  for (const { path } of manifest.files) {
    if (path === MODEL_FILE || topology.paths.includes(path)) continue
    const bytes = await parent.files.read(path)
    const ours = path === README_FILE && new TextDecoder().decode(bytes) === writeCard(manifest)
    if (!ours) extra.set(path, bytes)
  }
  return makeVersion(
    {
      manifest: draft,
      modelJson: new TextEncoder().encode(modelJson),
      params: joinParams(topology, { params: change.params, frozen }),
      extra,
    },
    owner,
    limits,
  )
}

/** A manifest without what publishing fills in. */
function draftOf(manifest: Manifest): ManifestDraft {
  const {
    owner: _owner,
    tensors: _tensors,
    frozen: _frozen,
    tensorsSha256: _hash,
    files: _files,
    ...draft
  } = manifest
  return draft
}

/** A Hugging Face model card: YAML in front, so that a version uploads there unchanged. */
export function writeCard(manifest: ManifestDraft): string {
  const { title, name, version, license, task, tags = [], description, output, metrics } = manifest
  const yaml = [
    '---',
    `license: ${JSON.stringify(license.toLowerCase())}`,
    `pipeline_tag: ${task}`,
    'tags:',
    ...['tfjs', 'mlstore', ...tags].map((tag) => `- ${JSON.stringify(tag)}`),
    'metrics:',
    '- accuracy',
    ...(metrics?.accuracy === undefined ? [] : modelIndex(name, task, metrics.accuracy)),
    '---',
  ]
  const text = [
    `# ${title}`,
    ...(description === undefined ? [] : [description]),
    `Labels: ${output.labels.join(', ')}.`,
    `Version ${version} of \`${name}\`, trained by its swarm with ML-Store: \`mlstore train ${name} --data DIR\`.`,
    'Load it in TensorFlow.js with `tf.loadLayersModel(url of model.json)`.',
  ]
  return `${yaml.join('\n')}\n\n${text.join('\n\n')}\n`
}

function modelIndex(name: string, task: string, accuracy: number): string[] {
  return [
    'model-index:',
    `- name: ${JSON.stringify(name)}`,
    '  results:',
    `  - task: {type: ${task}}`,
    '    dataset: {type: other, name: "held out by the owner"}',
    `    metrics: [{type: accuracy, value: ${accuracy}}]`,
  ]
}

async function filledIn(
  draft: ManifestDraft,
  owner: string,
  { tensors, frozen }: Topology,
  files: ReadonlyMap<string, Uint8Array>,
): Promise<Manifest> {
  const listed: ManifestFile[] = []
  for (const [path, bytes] of [...files].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    listed.push({ path, bytes: bytes.length, sha256: await sha256(bytes) })
  }
  const listOf = (specs: TensorSpec[]) =>
    specs.map(({ name, shape, role }) => ({ name, shape: [...shape], role }))
  const transfer = { frozen: listOf(frozen), tensorsSha256: await tensorsHash(tensors) }
  return {
    ...draft,
    ...{ owner, tensors: listOf(tensors), files: listed },
    ...(frozen.length > 0 ? transfer : {}),
  }
}

/** A draft's manifest, loosely: readManifest judges it once it is filled in. */
function readDraftManifest(bytes: Uint8Array): ManifestDraft {
  try {
    const draft = JSON.parse(new TextDecoder().decode(bytes))
    if (draft instanceof Object && !Array.isArray(draft))
      return { parents: [], manifest: 1, ...draft }
  } catch (error) {
    throw wrong(
      'wrong-manifest',
      {},
      `${MANIFEST_FILE} is not JSON: ${(error as Error).message}`,
      error,
    )
  }
  throw wrong(
    'wrong-manifest',
    {},
    `${MANIFEST_FILE} is no object, expected one with name, version, title, ...`,
  )
}

function checkPaths(paths: string[], manifest: Manifest): void {
  const expected = new Set([MANIFEST_FILE, ...manifest.files.map(({ path }) => path)])
  const extra = paths.find((path) => !expected.has(path))
  if (extra !== undefined)
    throw wrong(
      'extra-file',
      { path: extra },
      `${extra} is not among the files of ${MANIFEST_FILE}, expected only those`,
    )
  const missing = [...expected].find((path) => !paths.includes(path))
  if (missing !== undefined)
    throw wrong(
      'missing-file',
      { path: missing },
      `${missing} is missing, expected as ${MANIFEST_FILE} lists it`,
    )
}

async function readChecked(files: VersionFiles, file: ManifestFile): Promise<Uint8Array> {
  const bytes = await readFile(files, file.path)
  if (bytes.length !== file.bytes) {
    throw wrong(
      'wrong-size',
      { path: file.path, bytes: bytes.length, expected: file.bytes },
      `${file.path} has ${bytes.length} bytes, expected ${file.bytes}`,
    )
  }
  const digest = await sha256(bytes)
  if (digest !== file.sha256)
    throw wrong(
      'wrong-hash',
      { path: file.path },
      `${file.path} has sha256 ${digest}, expected ${file.sha256}`,
    )
  return bytes
}

async function readParams(
  files: VersionFiles,
  manifest: Manifest,
  topology: Topology,
): Promise<{ params: Uint8Array; frozen: Uint8Array }> {
  const expected = FLOAT_BYTES * (sizeOf(topology.tensors) + sizeOf(topology.frozen))
  const listed = topology.paths.reduce((sum, path) => sum + fileOf(manifest, path).bytes, 0)
  if (listed !== expected) throw wrongLength(listed, expected)
  const shards: Uint8Array[] = []
  for (const path of topology.paths) shards.push(await readChecked(files, fileOf(manifest, path)))
  const params = concat(shards)
  if (!allFinite(floatsOf(params)))
    throw wrong('not-finite', {}, 'the params hold NaN or infinity, expected finite numbers')
  return splitParams(topology, params)
}

function wrongLength(got: number, expected: number): Fault {
  const message = `the shards hold ${got} bytes, expected ${expected} for the model's params`
  return wrong('wrong-size', { path: MODEL_FILE, bytes: got, expected }, message)
}

function checkInputAndOutput(topology: Topology, manifest: Manifest): void {
  const { input, output } = manifest
  const shapes =
    input.kind === 'image'
      ? [input.shape, [input.shape.reduce((a, b) => a * b)]]
      : [[input.columns.length]]
  if (!shapes.some((shape) => `${shape}` === `${topology.inputShape}`)) {
    const expected = shapes.map((shape) => `[${shape}]`).join(' or ')
    throw wrong(
      'wrong-model',
      { field: 'input' },
      `model.json takes [${topology.inputShape}], expected ${expected} as ${MANIFEST_FILE} says`,
    )
  }
  if (topology.outputUnits !== output.labels.length) {
    throw wrong(
      'wrong-model',
      { field: 'output' },
      `model.json gives ${topology.outputUnits} values, expected ${output.labels.length}: one a label`,
    )
  }
  if (topology.outputActivation !== 'softmax') {
    throw wrong(
      'wrong-model',
      { field: 'output' },
      `model.json ends in ${topology.outputActivation}, expected softmax with ${manifest.train.loss}`,
    )
  }
}

function checkLabels(bytes: Uint8Array, manifest: Manifest): void {
  const lines = new TextDecoder()
    .decode(bytes)
    .split(/\r?\n/)
    .filter((line) => line !== '')
  if (lines.join('\n') !== manifest.output.labels.join('\n')) {
    throw wrong(
      'wrong-labels',
      { labels: lines.length, expected: manifest.output.labels.length },
      `${LABELS_FILE} has ${lines.length} labels, expected the ${manifest.output.labels.length} of ${MANIFEST_FILE} in their order`,
    )
  }
}

function fileOf(manifest: Manifest, path: string): ManifestFile {
  const file = manifest.files.find((file) => file.path === path)
  if (file === undefined)
    throw wrong(
      'missing-file',
      { path },
      `${path} is not among the files of ${MANIFEST_FILE}, expected since model.json names it`,
    )
  return file
}

async function readFile(files: VersionFiles, path: string): Promise<Uint8Array> {
  try {
    return await files.read(path)
  } catch (error) {
    if (!(error instanceof Fault) || error.detail.kind !== 'not-found') throw error
    throw wrong('missing-file', { path }, `${path} is missing, expected in every version`, error)
  }
}

export async function sha256(bytes: Uint8Array): Promise<string> {
  return textOf((await sha256Hasher.digest(bytes)).digest, 'base16')
}

/** Bytes as float32 values, copied only when they do not start at a multiple of four. */
export function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % FLOAT_BYTES === 0 ? bytes : bytes.slice()
  return new Float32Array(
    aligned.buffer,
    aligned.byteOffset,
    Math.floor(aligned.length / FLOAT_BYTES),
  )
}

/** Params as a safetensors file: 8 bytes of length, a JSON header, the values. Source: huggingface/safetensors. */
export function writeSafetensors(
  tensors: readonly TensorSpec[],
  params: Uint8Array,
  about: Record<string, string>,
): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: about }
  let offset = 0
  for (const tensor of tensors) {
    const end = offset + FLOAT_BYTES * tensorSize(tensor)
    header[tensor.name] = { dtype: 'F32', shape: tensor.shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const padded = new Uint8Array(Math.ceil(json.length / 8) * 8).fill(0x20)
  padded.set(json)
  const length = new Uint8Array(8)
  new DataView(length.buffer).setBigUint64(0, BigInt(padded.length), true)
  return concat([length, padded, params])
}

export function concat(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

function missing(path: string): never {
  const hint = 'add it, and run mlstore check again'
  throw new Fault({
    ...({ kind: 'not-found', type: 'file-not-found', path } as const),
    ...{ message: `no file ${path}`, hint },
  })
}

function wrongPath(path: string): Fault {
  return wrong(
    'wrong-path',
    { path },
    `${JSON.stringify(path)} cannot be a file of a version, expected letters, digits, . _ - and at most one folder`,
  )
}

function wrong<T extends keyof FaultFacts>(
  type: T,
  facts: FaultFacts[T],
  message: string,
  cause?: unknown,
): Fault {
  const hint =
    'fetch it again from its owner; if it is yours, correct it and run mlstore check again'
  return new Fault<string>({ kind: 'verification', type, message, hint, ...facts }, cause)
}
