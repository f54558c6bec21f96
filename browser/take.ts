import type { OpenVersion } from './services.ts'

/**
 * A model to take away: TensorFlow.js' model.json with one file of params, the same params as safetensors, labels and card.
 *
 *   params   float32 in tensor order, little-endian: as published, or as trained here
 *
 * Frozen layers come as they were published, behind the others: so does a version's own model.json list them.
 */
export async function zipOf(version: OpenVersion, params: Uint8Array): Promise<Blob> {
  const [{ downloadZip }, { concat, writeSafetensors }] = await Promise.all([
    import('client-zip'),
    import('../protocol/ports/version.ts'),
  ])
  const { manifest, cid, readme, modelJson } = version
  const about = { format: 'tfjs', name: manifest.name, version: manifest.version, cid }
  const tensors = [...manifest.tensors, ...(manifest.frozen ?? [])]
  const all = concat([params, version.frozen])
  const files: { name: string; input: string | Uint8Array }[] = [
    { name: 'model.json', input: withOneShard(modelJson) },
    { name: SHARD, input: all },
    { name: 'model.safetensors', input: writeSafetensors(tensors, all, about) },
    { name: 'labels.txt', input: `${manifest.output.labels.join('\n')}\n` },
    { name: 'README.md', input: readme },
  ]
  return downloadZip(files as { name: string; input: string }[]).blob()
}

const SHARD = 'group1-shard1of1.bin'

interface WeightsGroup {
  paths: string[]
  weights: unknown[]
}

/** All weights in their order, in the one file that we write. */
export function withOneShard(modelJson: string): string {
  const model = JSON.parse(modelJson) as { weightsManifest?: WeightsGroup[] }
  const weights = (model.weightsManifest ?? []).flatMap((group) => group.weights)
  return JSON.stringify({ ...model, weightsManifest: [{ paths: [SHARD], weights }] })
}
