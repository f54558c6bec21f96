/**
 * What a version shares with its genesis: tensors, frozen weights, input, preprocessing and labels never change in between, since peers of
 * one swarm add each other's params and each prepares its own data. An owner who changes them begins another genesis.
 */
import { Fault } from '../errors.ts'
import {
  MANIFEST_FILE,
  type Manifest,
  type ManifestFile,
  type PreprocessStep,
} from '../manifest.ts'
import { specText } from './version.ts'

/**
 * Checks a child against its genesis' own manifest. Throws Fault `not-of-its-genesis` (verification) that names the first
 * thing that differs, what came and what was expected.
 */
export function checkGenesis(manifest: Manifest, cid: string, genesis: Manifest): void {
  if (genesis.genesis !== undefined)
    throw wrong(`genesis ${cid} is itself a child of ${genesis.genesis}`, 'a first version')
  const [came, expected] = [factsOf(manifest), factsOf(genesis)]
  for (const what of new Set([...came.keys(), ...expected.keys()])) {
    const [had, said] = [came.get(what), expected.get(what)]
    if (had === said) continue
    throw wrong(`${what} is ${had ?? 'missing'}`, `${said ?? 'none'} as in its genesis ${cid}`)
  }
}

/** Everything that never changes, by its place. */
function factsOf({ tensors, frozen = [], input, preprocess, output, files }: Manifest) {
  const isImage = input.kind === 'image'
  return new Map<string, string>([
    ...listed('tensor', tensors.map(specText)),
    ...listed('frozen tensor', frozen.map(specText)),
    ...files.filter(isFrozen).map(({ path, sha256 }): [string, string] => [path, sha256]),
    ['input', isImage ? `${input.dtype} image [${input.shape}]` : `${input.dtype} table`],
    ...listed('column', isImage ? [] : input.columns.map(quoted)),
    ...preprocess.flatMap((step, i) => factsOfStep(step, `preprocessing step ${i}`)),
    ...listed('label', output.labels.map(quoted)),
  ])
}

/** Frozen layers are the same in every version: their weights stand in shards of their own. */
function isFrozen({ path }: ManifestFile): boolean {
  return path.startsWith('group2-shard')
}

function factsOfStep(step: PreprocessStep, what: string): [string, string][] {
  switch (step.op) {
    case 'resize':
      return [[what, `resize to ${step.height} x ${step.width}`]]
    case 'scale':
      return [[what, `scale by ${step.multiply} and add ${step.add ?? 0}`]]
    case 'standardize':
      return [
        [what, step.op],
        ...listed(`${what}, mean`, step.mean.map(String)),
        ...listed(`${what}, std`, step.std.map(String)),
      ]
    default:
      return [[what, step.op]]
  }
}

function listed(what: string, texts: readonly string[]): [string, string][] {
  return texts.map((text, i) => [`${what} ${i}`, text])
}

function quoted(text: string): string {
  return JSON.stringify(text)
}

function wrong(came: string, expected: string): Fault {
  return new Fault({
    kind: 'verification',
    type: 'not-of-its-genesis',
    message: `${MANIFEST_FILE}: ${came}, expected ${expected}`,
    hint: 'it cannot train with its swarm: open another version, or publish it as a model of its own',
    came,
    expected,
  })
}
