import type * as tfl from '@tensorflow/tfjs-layers'

/** A model.json as tfjs-layers writes it. */
export async function written(model: tfl.LayersModel): Promise<string> {
  let json = ''
  await model.save({
    async save({ modelTopology, weightSpecs }) {
      const weightsManifest = [{ paths: ['weights.bin'], weights: weightSpecs }]
      json = JSON.stringify({ modelTopology, weightsManifest })
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } }
    },
  })
  return json
}
