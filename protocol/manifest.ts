/**
 * Manifest: what a version is. `mlstore.json` inside a version's directory: data only, read with limits.
 *
 * The validator below is the definition; manifest.schema.json is generated from it (manifest.schema.ts).
 * Unknown fields are kept, so that an older reader passes on what a newer writer said; an unknown major is
 * refused. Tensor specs, input, output and preprocessing never change within a genesis.
 */
import * as v from 'valibot'
import { Fault } from './errors.ts'
import { tensorSize } from './params.ts'

export const MANIFEST_FILE = 'mlstore.json'
export const MANIFEST_MAJOR = 1

/** A manifest longer than this is refused before it is parsed. */
export const MAX_MANIFEST_BYTES = 64 * 1024
/** A version whose files hold more than this together is refused before anything is fetched. */
export const MAX_VERSION_BYTES = 2 * 1024 ** 3
export const MAX_FILES = 512
const MAX_LABELS = 1_000
const MAX_COLUMNS = 1_000
const MAX_SIDE_PIXELS = 1_024
const MAX_TENSORS = 512

/** Names of files in a version: one folder deep at most, nothing hidden, nothing that climbs. */
const SEGMENT = '(?!\\.)[A-Za-z0-9._-]{1,64}'
export const pathPattern = new RegExp(`^${SEGMENT}(/${SEGMENT})?$`)
const namePattern = /^[a-z0-9][a-z0-9-]{0,63}$/
export const semverPattern =
  /^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,32})?$/
const spdxPattern = /^[A-Za-z0-9.+() -]{1,64}$/
const cidPattern = /^baf[a-z2-7]{56}$/
/** An Ed25519 key as a peer id in base58: no other key is accepted anywhere. */
const ownerPattern = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/
const sha256Pattern = /^[0-9a-f]{64}$/
/** A line people read: no control characters, nothing that turns the writing direction round. */
const linePattern = /^[^\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]*$/u

const line = (most: number) =>
  v.pipe(
    v.string(),
    v.minLength(1),
    v.maxLength(most),
    v.regex(linePattern, 'expected printable text'),
  )
const text = (pattern: RegExp, expected: string) =>
  v.pipe(v.string(), v.regex(pattern, `expected ${expected}`))
const number = (least: number, most: number) =>
  v.pipe(v.number(), v.finite(), v.minValue(least), v.maxValue(most))
const count = (least: number, most: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most))
const cid = text(cidPattern, 'a CID such as bafy...')
const distinct = (list: string[]) => new Set(list).size === list.length

const input = v.variant('kind', [
  v.looseObject({
    kind: v.literal('image'),
    /** Height, width, channels. */
    shape: v.tuple([count(1, MAX_SIDE_PIXELS), count(1, MAX_SIDE_PIXELS), v.picklist([1, 3, 4])]),
    dtype: v.literal('float32'),
  }),
  v.looseObject({
    kind: v.literal('table'),
    columns: v.pipe(
      v.array(line(100)),
      v.minLength(1),
      v.maxLength(MAX_COLUMNS),
      v.check(distinct, 'expected distinct names'),
    ),
    dtype: v.literal('float32'),
  }),
])

const preprocessStep = v.variant('op', [
  v.looseObject({ op: v.literal('grayscale') }),
  v.looseObject({
    op: v.literal('resize'),
    height: count(1, MAX_SIDE_PIXELS),
    width: count(1, MAX_SIDE_PIXELS),
  }),
  v.looseObject({ op: v.literal('invert') }),
  /** value * multiply + add */
  v.looseObject({
    op: v.literal('scale'),
    multiply: number(-1e6, 1e6),
    add: v.optional(number(-1e6, 1e6)),
  }),
  /** (value - mean) / std, one of each per channel or column */
  v.looseObject({
    op: v.literal('standardize'),
    mean: v.pipe(v.array(number(-1e9, 1e9)), v.minLength(1), v.maxLength(MAX_COLUMNS)),
    std: v.pipe(v.array(number(1e-9, 1e9)), v.minLength(1), v.maxLength(MAX_COLUMNS)),
  }),
])

const train = v.pipe(
  v.looseObject({
    loss: v.literal('categoricalCrossentropy'),
    optimizer: v.looseObject({
      name: v.picklist(['sgd', 'adam', 'adamw']),
      learningRate: number(1e-9, 100),
      beta1: v.optional(number(0, 0.999999)),
      beta2: v.optional(number(0, 0.999999)),
      epsilon: v.optional(number(1e-12, 1)),
      weightDecay: v.optional(number(0, 1)),
    }),
    /** mu of quasi-global momentum; 0 with adam and adamw, which keep their own. */
    momentum: number(0, 0.99),
    batchSize: count(1, 4_096),
    /** H: local steps between two exchanges; a floor unless `strict`. */
    stepsPerRound: count(1, 100_000),
    strict: v.optional(v.boolean()),
    /** Fraction of a peer's data it keeps for validation. */
    validation: number(0, 0.5),
    seed: count(0, 2 ** 32 - 1),
    metrics: v.pipe(v.array(v.picklist(['accuracy', 'loss'])), v.maxLength(8)),
    stop: v.optional(v.looseObject({ rounds: v.optional(count(1, 1_000_000)) })),
  }),
  v.check(
    ({ optimizer, momentum }) => optimizer.name === 'sgd' || momentum === 0,
    'expected momentum 0 with adam and adamw',
  ),
)

const gossip = v.looseObject({
  rule: v.picklist(['swap', 'mean']),
  codec: v.picklist(['int8', 'float32']),
  /** Swaps offered and accepted in a round, together. */
  swapsPerRound: v.optional(count(1, 64), 2),
  /** k of the rule `mean`. */
  pullFrom: v.optional(count(1, 16)),
})

const place = v.union([text(pathPattern, 'a file name, one folder deep at most'), cid])

const data = v.looseObject({
  accept: v.pipe(v.array(v.picklist(['imagefolder', 'csv'])), v.minLength(1), v.maxLength(8)),
  /** The CSV column that holds the label. */
  label: v.optional(line(100)),
  minExamples: v.optional(count(1, 1_000_000_000)),
  /** A path inside the version, or a CID. */
  sample: v.optional(place),
  eval: v.optional(place),
})

const tensor = v.looseObject({
  name: line(200),
  shape: v.pipe(v.array(count(1, 2 ** 30)), v.maxLength(6)),
  role: v.picklist(['trainable', 'mean', 'variance']),
})

const sha256 = text(sha256Pattern, '64 hexadecimal digits')

const file = v.looseObject({
  path: text(pathPattern, 'a file name, one folder deep at most'),
  bytes: count(0, MAX_VERSION_BYTES),
  sha256,
})

export const manifestSchema = v.pipe(
  v.looseObject({
    manifest: v.literal(MANIFEST_MAJOR),
    name: text(namePattern, 'small letters, digits and hyphens, at most 64'),
    version: text(semverPattern, 'three numbers such as 1.0.0'),
    title: line(100),
    description: v.optional(v.pipe(v.string(), v.maxLength(4_000))),
    /** An SPDX expression. */
    license: text(spdxPattern, 'an SPDX licence such as Apache-2.0'),
    tags: v.optional(v.pipe(v.array(line(32)), v.maxLength(16))),
    owner: text(ownerPattern, 'an Ed25519 peer id, 12D3KooW...'),
    /** The CID that names the swarm; absent in a genesis itself. */
    genesis: v.optional(cid),
    parents: v.pipe(v.array(cid), v.maxLength(16)),
    task: v.picklist(['image-classification', 'tabular-classification']),
    input,
    output: v.looseObject({
      kind: v.literal('classes'),
      labels: v.pipe(
        v.array(line(100)),
        v.minLength(2),
        v.maxLength(MAX_LABELS),
        v.check(distinct, 'expected distinct labels'),
      ),
    }),
    preprocess: v.pipe(v.array(preprocessStep), v.maxLength(16)),
    train,
    gossip,
    data,
    /** What is trained and swapped, in model.json's order: how the flat params are cut. */
    tensors: v.pipe(v.array(tensor), v.minLength(1), v.maxLength(MAX_TENSORS)),
    /** SHA-256 over a line `name [shape] role` for each of them; there where a layer is frozen. */
    tensorsSha256: v.optional(sha256),
    /** Weights of layers with `trainable: false`, which never move and are not among `tensors`. */
    frozen: v.optional(v.pipe(v.array(tensor), v.minLength(1), v.maxLength(MAX_TENSORS))),
    /** Every file of the directory but mlstore.json itself. */
    files: v.pipe(v.array(file), v.minLength(2), v.maxLength(MAX_FILES)),
    metrics: v.optional(
      v.looseObject({
        accuracy: v.optional(number(0, 1)),
        loss: v.optional(number(0, Number.MAX_VALUE)),
        examples: v.optional(count(0, Number.MAX_SAFE_INTEGER)),
      }),
    ),
  }),
)

/** Unknown fields are kept but have no type: only what the schema names can be read. */
type Known<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends readonly unknown[]
    ? { [K in keyof T]: Known<T[K]> }
    : { [K in keyof T as string extends K ? never : K]: Known<T[K]> }

export type Manifest = Known<v.InferOutput<typeof manifestSchema>>
export type PreprocessStep = Manifest['preprocess'][number]
export type ManifestFile = Manifest['files'][number]
/** What an owner writes; publishing fills in the rest. */
export type ManifestDraft = Omit<
  Manifest,
  'owner' | 'tensors' | 'tensorsSha256' | 'frozen' | 'files'
>

/**
 * Reads a manifest of at most 64 KiB.
 *
 * Throws a Fault of kind verification that names the first field that is wrong, what came and what was
 * expected. Unknown fields are kept.
 */
export function readManifest(bytes: Uint8Array | string): Manifest {
  const value = parse(bytes)
  checkMajor(value)
  const read = v.safeParse(manifestSchema, value)
  if (!read.success) throw wrongField(read.issues[0])
  checkTogether(read.output)
  return read.output
}

/** Writes a manifest as people read it; in one line where that would not fit. */
export function writeManifest(manifest: Manifest): Uint8Array {
  const encoder = new TextEncoder()
  const pretty = encoder.encode(`${JSON.stringify(manifest, null, 2)}\n`)
  if (pretty.length <= MAX_MANIFEST_BYTES) return pretty
  return encoder.encode(JSON.stringify(manifest))
}

/** Bytes of the whole version without its manifest. */
export function bytesOf(manifest: Manifest): number {
  return manifest.files.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** The CID that names a version's swarm: its genesis, or itself when it is one. */
export function swarmOf(manifest: Manifest, cid: string): string {
  return manifest.genesis ?? cid
}

/** Orders versions by their three numbers; a pre-release comes before its release, and rc.2 before rc.10. */
export function compareVersions(a: string, b: string): number {
  const [[numbersA, extraA], [numbersB, extraB]] = [a, b].map(cutVersion) as [Cut, Cut]
  for (let i = 0; i < 3; i++) if (numbersA[i] !== numbersB[i]) return numbersA[i]! - numbersB[i]!
  if (extraA === '' || extraB === '') return Number(extraA === '') - Number(extraB === '')
  return extraA.localeCompare(extraB, 'en', { numeric: true })
}

type Cut = [numbers: number[], extra: string]

function cutVersion(version: string): Cut {
  const [numbers = '', ...extra] = version.split('-')
  return [numbers.split('.').map(Number), extra.join('-')]
}

/** How many channels or columns a value array has: what one entry of `standardize` belongs to. */
export function channelsOf({ input }: Manifest): number {
  return input.kind === 'image' ? input.shape[2] : input.columns.length
}

function parse(bytes: Uint8Array | string): unknown {
  const size = typeof bytes === 'string' ? new TextEncoder().encode(bytes).length : bytes.length
  if (size > MAX_MANIFEST_BYTES) {
    throw wrong(`${MANIFEST_FILE} has ${size} bytes, expected at most ${MAX_MANIFEST_BYTES}`)
  }
  try {
    return JSON.parse(
      typeof bytes === 'string' ? bytes : new TextDecoder('utf-8', { fatal: true }).decode(bytes),
    )
  } catch (error) {
    throw wrong(`${MANIFEST_FILE} is not JSON: ${(error as Error).message}`, error)
  }
}

/** Said before anything else, so that a newer manifest is not called wrong for a field we do not know. */
function checkMajor(value: unknown): void {
  const major = value instanceof Object && 'manifest' in value ? value.manifest : undefined
  if (typeof major !== 'number' || major === MANIFEST_MAJOR) return
  throw new Fault({
    kind: 'verification',
    type: 'unknown-manifest',
    message: `${MANIFEST_FILE} is of major ${major}, expected ${MANIFEST_MAJOR}`,
    hint: 'a newer mlstore may read it',
    major,
  })
}

/** What the fields say of each other. */
function checkTogether(manifest: Manifest): void {
  const { input, task, preprocess, tensors, frozen = [], files, data } = manifest
  const kind = task === 'image-classification' ? 'image' : 'table'
  expect(input.kind === kind, 'input.kind', input.kind, `${kind} for ${task}`)
  preprocess.forEach((step, i) => {
    const forImages = step.op === 'grayscale' || step.op === 'resize' || step.op === 'invert'
    expect(
      kind === 'image' || !forImages,
      `preprocess.${i}.op`,
      step.op,
      'a step for tables: scale or standardize',
    )
    if (step.op !== 'standardize') return
    const lengths = [1, channelsOf(manifest)]
    expect(
      lengths.includes(step.mean.length),
      `preprocess.${i}.mean`,
      `${step.mean.length} values`,
      lengths.join(' or '),
    )
    expect(
      step.std.length === step.mean.length,
      `preprocess.${i}.std`,
      `${step.std.length} values`,
      step.mean.length,
    )
  })
  expect(
    manifest.genesis === undefined || manifest.parents.length > 0,
    'parents',
    '[]',
    'the version this one comes from',
  )
  expectDistinct(
    'tensors',
    [...tensors, ...frozen].map(({ name }) => name),
  )
  expectDistinct(
    'files',
    files.map(({ path }) => path),
  )
  const params = [...tensors, ...frozen].reduce((sum, spec) => sum + tensorSize(spec), 0)
  expect(
    params * 4 <= MAX_VERSION_BYTES,
    'tensors',
    `${params * 4} bytes`,
    `at most ${MAX_VERSION_BYTES}`,
  )
  const bytes = bytesOf(manifest)
  expect(bytes <= MAX_VERSION_BYTES, 'files', `${bytes} bytes`, `at most ${MAX_VERSION_BYTES}`)
  expect(
    files.every(({ path }) => path !== MANIFEST_FILE),
    'files',
    MANIFEST_FILE,
    'every file but itself',
  )
  expect(
    files.some(({ path }) => path === 'model.json'),
    'files',
    'no model.json',
    'model.json among them',
  )
  for (const field of ['sample', 'eval'] as const) {
    const path = data[field]
    if (path === undefined || cidPattern.test(path)) continue
    const held = files.some((file) => file.path === path || file.path.startsWith(`${path}/`))
    expect(held, `data.${field}`, path, 'a CID, or a path among files')
  }
}

function expectDistinct(field: string, names: string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  expect(twice === undefined, field, `${JSON.stringify(twice)} twice`, 'distinct names')
}

function expect(holds: boolean, field: string, came: unknown, expected: unknown): void {
  if (!holds)
    throw wrong(`${MANIFEST_FILE}: ${field} is ${came}, expected ${expected}`, undefined, field)
}

function wrongField(issue: v.BaseIssue<unknown>): Fault {
  const field = v.getDotPath(issue) ?? 'the whole'
  const came = issue.input === undefined ? 'missing' : short(issue.input, issue.received)
  const ours = /^expected (.*)$/.exec(issue.message)?.[1]
  const expected = ours ?? issue.expected ?? issue.message
  return wrong(`${MANIFEST_FILE}: ${field} is ${came}, expected ${expected}`, undefined, field)
}

/** A value as it came, cut to a line; long ones by what they measure instead. */
function short(value: unknown, received: string): string {
  if (value instanceof Object) return received
  const text = (JSON.stringify(value) ?? String(value)).replace(/[\p{Cc}\p{Cf}]/gu, '?')
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`
}

function wrong(message: string, cause?: unknown, field?: string): Fault {
  return new Fault(
    {
      kind: 'verification',
      type: 'wrong-manifest',
      message,
      hint: 'protocol/manifest.schema.json says what each field may be',
      ...(field === undefined ? {} : { field }),
    },
    cause,
  )
}
