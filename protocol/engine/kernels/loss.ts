import { powersOf, scaleRow, topOf } from './activation.ts'
import { log } from './simd.ts'

/**
 * The sum over the rows of -log softmax(logits)[label], divided by `whole` (the rows of the whole batch, of which these may
 * be a part), to an f64 at `loss`, and its gradient by the logits. By log-sum-exp, so that large logits do not overflow.
 */
export function crossEntropy(
  logits: usize,
  labels: usize,
  gradient: usize,
  loss: usize,
  rows: i32,
  classes: i32,
  whole: i32,
): void {
  const step = (<usize>classes) << 2
  const share: f32 = 1 / f32(whole)
  let sum: f64 = 0
  for (let row = 0; row < rows; row++) {
    const top = topOf(logits, classes)
    const powers = powersOf(logits, gradient, classes, top)
    const at = (<usize>load<i32>(labels + ((<usize>row) << 2))) << 2
    sum += log(f64(powers)) + f64(top) - f64(load<f32>(logits + at))
    scaleRow(gradient, classes, share / powers)
    store<f32>(gradient + at, load<f32>(gradient + at) - share)
    logits += step
    gradient += step
  }
  store<f64>(loss, sum / f64(whole))
}
