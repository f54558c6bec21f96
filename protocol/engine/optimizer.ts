import { invariant } from '../errors.ts'
import {
  adamNumbers,
  createOptimizer,
  type Optimizer,
  type OptimizerRecipe,
  trainableRanges,
} from '../optimizer.ts'
import type { Engine } from './engine.ts'
import type { Address } from './planner.ts'
import { FLOAT_BYTES } from './planner.ts'

/**
 * The optimizers of protocol/optimizer.ts as one fused pass each: same numbers, rounded to float32 on the way. Arrays
 * that do not lie in the engine's memory are moved by the slow ones.
 */
export function createFusedOptimizer(engine: Engine, recipe: OptimizerRecipe): Optimizer {
  const { tensors } = engine.graph
  const slow = createOptimizer(recipe, tensors, engine.floats)
  const ranges = trainableRanges(tensors)
  const pass = recipe.name === 'sgd' ? sgd(engine, recipe) : adam(engine, recipe, slow)
  return {
    name: slow.name,
    rate: slow.rate,
    slots: slow.slots,
    get steps() {
      return slow.steps
    },
    set steps(steps) {
      slow.steps = steps
    },
    step(params, gradient, direction, mu = 0) {
      const arrays = [params, gradient, ...slow.slots, ...(direction ? [direction] : [])]
      const addresses = arrays.map(engine.addressOf)
      if (addresses.includes(0)) return slow.step(params, gradient, direction, mu)
      slow.steps++
      const follow = direction && mu > 0 ? engine.addressOf(direction) : 0
      for (const [start, end] of ranges) {
        const at = (address: Address) => address && address + FLOAT_BYTES * start
        pass(addresses.map(at), end - start, at(follow), mu)
      }
    },
  }
}

/** Moves `size` params: `places` are params, gradient and slots; `direction` is 0 when none is followed. */
type Pass = (places: Address[], size: number, direction: Address, mu: number) => void

function sgd(engine: Engine, { learningRate, weightDecay = 0 }: OptimizerRecipe): Pass {
  const descend = engine.kernel('sgd')
  const follow = engine.kernel('sgdFollow')
  return ([params, gradient], size, direction, mu) => {
    if (direction === 0) descend(params!, gradient!, size, learningRate, weightDecay)
    else follow(params!, gradient!, direction, size, learningRate, mu, weightDecay)
  }
}

function adam(engine: Engine, recipe: OptimizerRecipe, counter: Optimizer): Pass {
  const move = engine.kernel('adam')
  const { beta1, beta2, epsilon, inGradient, keep, correctionsAt } = adamNumbers(recipe)
  return ([params, gradient, first, second], size) => {
    invariant(first && second, 'adam has two slots')
    const { stepRate, correction } = correctionsAt(counter.steps)
    move(
      ...[params!, gradient!, first, second, size, stepRate, correction],
      ...[beta1, 1 - beta1, beta2, 1 - beta2, epsilon, inGradient, keep],
    )
  }
}
