import { Fault } from '../../protocol/errors.ts'
import type { Topology } from '../../protocol/ports/trainer/topology.ts'
import type { CommandSpec } from '../command.ts'
import { type Print, sizeText, table } from '../print.ts'

/**
 * A directory, judged as a peer would judge it: a version that was pulled, or a draft before it is published. Says of each
 * layer what it takes and what trains it.
 */
export const check: CommandSpec = {
  arguments: '[dir]',
  options: [
    { flags: '--layers', text: 'instead: every layer that a model may have, and what trains it' },
  ],
  examples: [
    'mlstore check ./my-model',
    'mlstore check --layers',
    'mlstore pull digits -o ./digits && mlstore check ./digits',
  ],
  async run({ args, options, print }) {
    if (options.layers === true) return printLayers(print)
    if (args[0] === undefined) throw noDirectory()
    const { filesIn } = await import('../files.ts')
    const { checkVersion, filesOf, makeVersion, readDraft } = await import(
      '../../protocol/ports/version.ts'
    )
    const { bytesOf, MANIFEST_FILE } = await import('../../protocol/manifest.ts')
    const { sizeOf } = await import('../../protocol/params.ts')
    const { memoryLimit } = await import('../memory.ts')
    const dir = args[0] as string
    const limits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }
    const given = await filesIn(dir)
    const isVersion = await hasFiles(given.read, MANIFEST_FILE)
    const files = isVersion
      ? given
      : filesOf(await makeVersion(await readDraft(given), someOwner, limits))
    const { manifest, topology } = await checkVersion(files, limits)
    const kind = isVersion ? 'version' : 'draft'
    const { name, version, train } = manifest
    const { memoryBytes, multiplyAdds } = topology.demand
    const params = sizeOf(topology.tensors)
    const layers = await layersOf(topology)
    const frozen = sizeOf(topology.frozen)
    const beside = frozen > 0 ? ` and ${frozen.toLocaleString('en')} frozen` : ''
    const trains = memoryBytes <= memoryLimit()
    const tooMuch = trains ? '' : ', more than half of what is free here: see train --max-memory'
    const ok = `ok: ${kind} ${name}@${version}, ${params.toLocaleString('en')} params${beside}, ${sizeText(bytesOf(manifest))}, trains in about ${sizeText(memoryBytes)}${tooMuch}`
    const step = `a step on ${train.batchSize} examples takes ${countText(multiplyAdds)} multiply-adds; ${trainerText(layers)}`
    print.answer({
      id: 'ok',
      object: {
        ...{ ok: true, kind, name, version, params, frozen, memoryBytes, multiplyAdds },
        bytes: bytesOf(manifest),
        /** Within half of what is free here. */
        trains,
        layers,
      },
      text: [ok, step, '', layerTable(layers)].join('\n'),
    })
  },
}

interface LayerReport {
  name: string
  class: string
  output: readonly number[]
  params: number
  /** Values, gradients and what is kept between the two, of a batch. */
  memoryBytes: number
  /** Of a step. */
  multiplyAdds: number
  /** Nobody: its weights never move. */
  trainedBy: 'planned' | 'TensorFlow.js' | 'frozen'
}

async function layersOf(topology: Topology): Promise<LayerReport[]> {
  const { layers, demand } = topology
  const { frozenLayersOf } = await import('../../protocol/ports/trainer/topology.ts')
  const held = frozenLayersOf(topology)
  const { trainedBy } = await import('../../protocol/ports/trainer/layer-graph.ts')
  return layers.map(({ name, className, outputShape }, i) => {
    const { params, bytes, multiplyAdds } = demand.nodes[i]!
    return {
      ...{ name, class: className, output: outputShape },
      ...{ params, memoryBytes: bytes, multiplyAdds },
      trainedBy: held.has(name) ? 'frozen' : trainedBy(className),
    }
  })
}

function trainerText(layers: LayerReport[]): string {
  const others = layers.filter(({ trainedBy }) => trainedBy === 'TensorFlow.js')
  if (others.length === 0) return 'all layers are planned: the engine trains it'
  const names = [...new Set(others.map((layer) => layer.class))].join(', ')
  return `TensorFlow.js trains it, since the engine has no plan for ${names}`
}

function layerTable(layers: LayerReport[]): string {
  const rows = layers.map((layer) => [
    ...[layer.name, layer.class, layer.output.join(' x '), layer.params.toLocaleString('en')],
    ...[countText(layer.multiplyAdds), sizeText(layer.memoryBytes), layer.trainedBy],
  ])
  const head = ['LAYER', 'CLASS', 'OUTPUT', 'PARAMS', 'MULTIPLY-ADDS', 'MEMORY', 'TRAINED BY']
  return table([head, ...rows])
}

async function printLayers(print: Print): Promise<void> {
  const { layerClasses, trainedBy } = await import('../../protocol/ports/trainer/layer-graph.ts')
  const rows = layerClasses.map((name) => ({ class: name, trainedBy: trainedBy(name) }))
  print.answer({
    id: layerClasses.join('\n'),
    object: { layers: rows },
    text: table([['LAYER', 'TRAINED BY'], ...rows.map((row) => [row.class, row.trainedBy])]),
  })
}

/** 1.2 million */
function countText(count: number): string {
  const names = ['', ' thousand', ' million', ' billion', ' trillion']
  const power = Math.min(names.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3))
  const scaled = count / 1000 ** power
  return `${power === 0 ? scaled : scaled.toPrecision(3)}${names[power]}`
}

function noDirectory(): Fault {
  return new Fault({
    kind: 'usage',
    type: 'missing-argument',
    message: "missing required argument 'dir'",
    hint: 'name a directory with a draft or a version, or ask for --layers',
  })
}

/** An owner for the check of a draft, whose real one publishing fills in. */
const someOwner = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'

/** A manifest that lists files is a version's; a draft's does not. */
async function hasFiles(
  read: (path: string) => Promise<Uint8Array>,
  path: string,
): Promise<boolean> {
  try {
    const manifest: unknown = JSON.parse(new TextDecoder().decode(await read(path)))
    return manifest instanceof Object && 'files' in manifest
  } catch {
    return true
  }
}
