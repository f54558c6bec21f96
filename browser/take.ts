import type { OpenVersion } from './services.ts'

/**
 * A model to take away: TensorFlow.js' model.json with one file of params, the same params as safetensors, labels and card.
 *
 *   params   float32 in tensor order, little-endian: as published, or as trained here
 */
export async function zipOf(version: OpenVersion, params: Uint8Array): Promise<Blob> {
  const [{ downloadZip }, { writeSafetensors }] = await Promise.all([
    import('client-zip'),
    import('../protocol/ports/version.ts'),
  ])
  const { manifest, cid, readme, modelJson } = version
  const about = { format: 'tfjs', name: manifest.name, version: manifest.version, cid }
  const files: { name: string; input: string | Uint8Array }[] = [
    { name: 'model.json', input: withOneShard(modelJson) },
    { name: SHARD, input: params },
    { name: 'model.safetensors', input: writeSafetensors(manifest.tensors, params, about) },
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
