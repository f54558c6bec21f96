import type { LayerRule } from './rule.ts'
import { integer, MAX_ACTIVATION, MAX_RANK, only, product, quoted, wrong } from './settings.ts'

/** Other axes over the same values; one of them may be -1, for what is left. */
export const reshape: LayerRule = {
  settings: ['target_shape'],

  read(config, inputs, where) {
    const target = reshaped(config.target_shape, product(only(inputs)), where('target_shape'))
    return { config: { target_shape: target }, outputShape: target, weights: [] }
  },

  plan: (_, planner) => planner.view(),
  reference: ({ outputShape }, [x]) => ({ shape: [x!.shape[0]!, ...outputShape], at: x!.at }),
}

function reshaped(target: unknown, size: number, where: string): number[] {
  if (!Array.isArray(target) || target.length === 0 || target.length > MAX_RANK) {
    throw wrong(where, quoted(target), `1 to ${MAX_RANK} axes`)
  }
  const free = target.indexOf(-1)
  const sizes = target.map((length, i) =>
    i === free ? 1 : integer(length, 1, MAX_ACTIVATION, where),
  )
  if (free >= 0) sizes[free] = size / product(sizes)
  if (!sizes.every(Number.isInteger) || product(sizes) !== size)
    throw wrong(where, quoted(target), `${size} values`)
  return sizes
}
