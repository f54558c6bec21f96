/**
 * LSTM and GRU over a whole sequence, forward and backward, in time-major order: value [t, b, u] at 4 * ((t * batch + b) * width + u).
 *
 * The caller multiplies all inputs by the kernel beforehand (z, bias included) and makes the weight gradients afterwards, each as one
 * large product; here are only the steps that depend on each other. Backward overwrites the gates in z by the gradients before them.
 * Source: Hochreiter and Schmidhuber 1997, Cho et al. 2014, gates i f c o and z r h in Keras' order; the reset before the product as
 * in Keras 2's first form (gru), or after it as in cuDNN (gruAfter).
 */
import { sigmoid, tanh } from './simd.ts'
import { readPart, writePart } from './part.ts'
import { packPanels, smallPanels } from './small.ts'

const LINEAR = 0
const RELU = 1
const TANH = 2
const SIGMOID = 3
const HARD_SIGMOID = 4

// @ts-ignore: decorator
@inline
function activate(code: i32, x: v128): v128 {
  if (code == TANH) return tanh(x)
  if (code == SIGMOID) return sigmoid(x)
  if (code == RELU) return f32x4.max(x, f32x4.splat(0))
  if (code == HARD_SIGMOID) {
    const line = f32x4.add(f32x4.mul(x, f32x4.splat(0.2)), f32x4.splat(0.5))
    return f32x4.min(f32x4.max(line, f32x4.splat(0)), f32x4.splat(1))
  }
  return x
}

/** For what is not on the path of most models: one copy of the code, called. */
function activateAny(code: i32, x: v128): v128 {
  return activate(code, x)
}

/** gradient times the activation's derivative, found from its value. */
// @ts-ignore: decorator
@inline
function through(code: i32, value: v128, gradient: v128): v128 {
  if (code == TANH) return f32x4.mul(gradient, f32x4.sub(f32x4.splat(1), f32x4.mul(value, value)))
  if (code == SIGMOID) {
    return f32x4.mul(gradient, f32x4.mul(value, f32x4.sub(f32x4.splat(1), value)))
  }
  const above = f32x4.gt(value, f32x4.splat(0))
  if (code == RELU) return v128.and(above, gradient)
  if (code == HARD_SIGMOID) {
    const inside = v128.and(above, f32x4.lt(value, f32x4.splat(1)))
    return v128.and(inside, f32x4.mul(gradient, f32x4.splat(0.2)))
  }
  return gradient
}

/** The units of one example from `u` on, in bytes: by fours with the activations in line, then one by one. */
// @ts-ignore: decorator
@inline
function lstmCells(z: usize, gate: usize, c: usize, cNext: usize, squashed: usize, h: usize, recurrent: i32): usize {
  let u: usize = 0
  for (; u + 16 <= gate; u += 16) {
    const i = activate(recurrent, v128.load(z + u))
    const f = activate(recurrent, v128.load(z + gate + u))
    const g = tanh(v128.load(z + 2 * gate + u))
    const o = activate(recurrent, v128.load(z + 3 * gate + u))
    const next = f32x4.add(f32x4.mul(f, v128.load(c + u)), f32x4.mul(i, g))
    const bounded = tanh(next)
    v128.store(z + u, i)
    v128.store(z + gate + u, f)
    v128.store(z + 2 * gate + u, g)
    v128.store(z + 3 * gate + u, o)
    v128.store(cNext + u, next)
    v128.store(squashed + u, bounded)
    v128.store(h + u, f32x4.mul(o, bounded))
  }
  return u
}

/** Any activations, and what is left of a row. */
function lstmRest(z: usize, gate: usize, c: usize, cNext: usize, squashed: usize, h: usize, activation: i32, recurrent: i32, from: usize): void {
  let size: usize = 16
  for (let u = from; u < gate; u += size) {
    const whole = u + 16 <= gate
    size = whole ? 16 : 4
    const i = activateAny(recurrent, readPart(z + u, whole))
    const f = activateAny(recurrent, readPart(z + gate + u, whole))
    const g = activateAny(activation, readPart(z + 2 * gate + u, whole))
    const o = activateAny(recurrent, readPart(z + 3 * gate + u, whole))
    const next = f32x4.add(f32x4.mul(f, readPart(c + u, whole)), f32x4.mul(i, g))
    const bounded = activateAny(activation, next)
    writePart(z + u, i, whole)
    writePart(z + gate + u, f, whole)
    writePart(z + 2 * gate + u, g, whole)
    writePart(z + 3 * gate + u, o, whole)
    writePart(cNext + u, next, whole)
    writePart(squashed + u, bounded, whole)
    writePart(h + u, f32x4.mul(o, bounded), whole)
  }
}

/**
 * z[T, batch, 4 units]: inputs times kernel plus bias, becomes the gates. weights[units, 4 units]. packed: scratch of
 * 8 * units * ceil(units / 2) floats. h, c[T + 1, batch, units]: states, the first zeroed here. squashed[T, batch, units]: act(c).
 */
export function lstmForward(
  z: usize, weights: usize, packed: usize, h: usize, c: usize, squashed: usize,
  steps: i32, batch: i32, units: i32, activation: i32, recurrent: i32,
): void {
  const row = <usize>units << 2
  const state = row * batch
  packPanels(weights, 4 * row, 4, packed, 4 * units, units)
  memory.fill(h, 0, state)
  memory.fill(c, 0, state)
  for (let t = 0; t < steps; t++) {
    if (t > 0) smallPanels(h, row, 4, packed, 32, <usize>units << 5, z, 4 * row, batch, 4 * units, units, 1, true)
    const next = h + state
    for (let b: usize = 0; b < <usize>batch; b++) {
      const at = b * row
      let u: usize = 0
      if (activation == TANH && recurrent == SIGMOID) {
        u = lstmCells(z + 4 * at, row, c + at, c + state + at, squashed + at, next + at, SIGMOID)
      } else if (activation == TANH && recurrent == HARD_SIGMOID) {
        u = lstmCells(z + 4 * at, row, c + at, c + state + at, squashed + at, next + at, HARD_SIGMOID)
      }
      lstmRest(z + 4 * at, row, c + at, c + state + at, squashed + at, next + at, activation, recurrent, u)
    }
    z += 4 * state
    h = next
    c += state
    squashed += state
  }
}

function lstmGradient(z: usize, gate: usize, c: usize, squashed: usize, dh: usize, dc: usize, activation: i32, recurrent: i32): void {
  let size: usize = 16
  for (let u: usize = 0; u < gate; u += size) {
    const whole = u + 16 <= gate
    size = whole ? 16 : 4
    const i = readPart(z + u, whole)
    const f = readPart(z + gate + u, whole)
    const g = readPart(z + 2 * gate + u, whole)
    const o = readPart(z + 3 * gate + u, whole)
    const bounded = readPart(squashed + u, whole)
    const toH = readPart(dh + u, whole)
    const toC = f32x4.add(readPart(dc + u, whole), through(activation, bounded, f32x4.mul(toH, o)))
    writePart(z + u, through(recurrent, i, f32x4.mul(toC, g)), whole)
    writePart(z + gate + u, through(recurrent, f, f32x4.mul(toC, readPart(c + u, whole))), whole)
    writePart(z + 2 * gate + u, through(activation, g, f32x4.mul(toC, i)), whole)
    writePart(z + 3 * gate + u, through(recurrent, o, f32x4.mul(toH, bounded)), whole)
    writePart(dc + u, f32x4.mul(toC, f), whole)
  }
}

/**
 * z, c, squashed as forward left them; z becomes the gradient before the gates. dh[T, batch, units]: gradient of the outputs, is
 * added to. packed: scratch of 32 * units * ceil(units / 8) floats; dc: scratch of batch * units.
 */
export function lstmBackward(
  z: usize, weights: usize, packed: usize, c: usize, squashed: usize, dh: usize, dc: usize,
  steps: i32, batch: i32, units: i32, activation: i32, recurrent: i32,
): void {
  const row = <usize>units << 2
  const state = row * batch
  packPanels(weights, 4, 4 * row, packed, units, 4 * units)
  memory.fill(dc, 0, state)
  for (let t = <usize>steps - 1; ; t--) {
    const zt = z + 4 * t * state
    const dt = dh + t * state
    for (let b: usize = 0; b < <usize>batch; b++) {
      const at = b * row
      const from = t * state + at
      lstmGradient(zt + 4 * at, row, c + from, squashed + from, dt + at, dc + at, activation, recurrent)
    }
    if (t == 0) return
    smallPanels(zt, 4 * row, 4, packed, 32, <usize>units << 7, dt - state, row, batch, units, 4 * units, 1, true)
  }
}

function gruReset(z: usize, gate: usize, h: usize, reset: usize, whole: bool, recurrent: i32): void {
  const r = activateAny(recurrent, readPart(z + gate, whole))
  writePart(z, activateAny(recurrent, readPart(z, whole)), whole)
  writePart(z + gate, r, whole)
  writePart(reset, f32x4.mul(r, readPart(h, whole)), whole)
}

function gruMix(z: usize, gate: usize, h: usize, next: usize, whole: bool, activation: i32): void {
  const keep = readPart(z, whole)
  const candidate = activateAny(activation, readPart(z + 2 * gate, whole))
  writePart(z + 2 * gate, candidate, whole)
  const difference = f32x4.sub(readPart(h, whole), candidate)
  writePart(next, f32x4.add(candidate, f32x4.mul(keep, difference)), whole)
}

/**
 * z[T, batch, 3 units]: inputs times kernel plus bias, becomes the gates. weights[units, 3 units]. packed: scratch of
 * 8 * units * (ceil(units / 4) + ceil(units / 8)) floats. h[T + 1, batch, units]: states, the first zeroed here.
 * reset[T, batch, units]: r * h before the product.
 */
export function gruForward(
  z: usize, weights: usize, packed: usize, h: usize, reset: usize,
  steps: i32, batch: i32, units: i32, activation: i32, recurrent: i32,
): void {
  const row = <usize>units << 2
  const state = row * batch
  const packedCandidate = packed + (<usize>units << 5) * ((2 * units + 7) >> 3)
  packPanels(weights, 3 * row, 4, packed, 2 * units, units)
  packPanels(weights + 2 * row, 3 * row, 4, packedCandidate, units, units)
  memory.fill(h, 0, state)
  for (let t = 0; t < steps; t++) {
    smallPanels(h, row, 4, packed, 32, <usize>units << 5, z, 3 * row, batch, 2 * units, units, 1, true)
    for (let b: usize = 0; b < <usize>batch; b++) {
      let u: usize = 0
      for (; u + 16 <= row; u += 16) gruReset(z + 3 * b * row + u, row, h + b * row + u, reset + b * row + u, true, recurrent)
      for (; u < row; u += 4) gruReset(z + 3 * b * row + u, row, h + b * row + u, reset + b * row + u, false, recurrent)
    }
    smallPanels(reset, row, 4, packedCandidate, 32, <usize>units << 5, z + 2 * row, 3 * row, batch, units, units, 1, true)
    const next = h + state
    for (let b: usize = 0; b < <usize>batch; b++) {
      let u: usize = 0
      for (; u + 16 <= row; u += 16) gruMix(z + 3 * b * row + u, row, h + b * row + u, next + b * row + u, true, activation)
      for (; u < row; u += 4) gruMix(z + 3 * b * row + u, row, h + b * row + u, next + b * row + u, false, activation)
    }
    z += 3 * state
    h = next
    reset += state
  }
}

function gruMixGradient(z: usize, gate: usize, h: usize, dh: usize, dBefore: usize, first: bool, whole: bool, activation: i32, recurrent: i32): void {
  const keep = readPart(z, whole)
  const candidate = readPart(z + 2 * gate, whole)
  const gradient = readPart(dh, whole)
  const kept = f32x4.mul(gradient, keep)
  writePart(z, through(recurrent, keep, f32x4.mul(gradient, f32x4.sub(readPart(h, whole), candidate))), whole)
  writePart(z + 2 * gate, through(activation, candidate, f32x4.sub(gradient, kept)), whole)
  if (!first) writePart(dBefore, f32x4.add(readPart(dBefore, whole), kept), whole)
}

function gruResetGradient(z: usize, gate: usize, h: usize, dReset: usize, dBefore: usize, first: bool, whole: bool, recurrent: i32): void {
  const r = readPart(z + gate, whole)
  const gradient = readPart(dReset, whole)
  writePart(z + gate, through(recurrent, r, f32x4.mul(gradient, readPart(h, whole))), whole)
  if (!first) writePart(dBefore, f32x4.add(readPart(dBefore, whole), f32x4.mul(gradient, r)), whole)
}

/** As lstmBackward; packed as in gruForward, dReset: scratch of batch * units. h: the states that forward left. */
export function gruBackward(
  z: usize, weights: usize, packed: usize, h: usize, dh: usize, dReset: usize,
  steps: i32, batch: i32, units: i32, activation: i32, recurrent: i32,
): void {
  const row = <usize>units << 2
  const state = row * batch
  const panels = <usize>((units + 7) >> 3)
  const packedCandidate = packed + (<usize>units << 6) * panels
  packPanels(weights, 4, 3 * row, packed, units, 2 * units)
  packPanels(weights + 2 * row, 4, 3 * row, packedCandidate, units, units)
  for (let t = <usize>steps - 1; ; t--) {
    const first = t == 0
    const zt = z + 3 * t * state
    const ht = h + t * state
    const dt = dh + t * state
    for (let b: usize = 0; b < <usize>batch; b++) {
      let u: usize = 0
      const at = b * row
      for (; u + 16 <= row; u += 16) gruMixGradient(zt + 3 * at + u, row, ht + at + u, dt + at + u, dt - state + at + u, first, true, activation, recurrent)
      for (; u < row; u += 4) gruMixGradient(zt + 3 * at + u, row, ht + at + u, dt + at + u, dt - state + at + u, first, false, activation, recurrent)
    }
    smallPanels(zt + 2 * row, 3 * row, 4, packedCandidate, 32, <usize>units << 5, dReset, row, batch, units, units, 1, false)
    for (let b: usize = 0; b < <usize>batch; b++) {
      let u: usize = 0
      const at = b * row
      for (; u + 16 <= row; u += 16) gruResetGradient(zt + 3 * at + u, row, ht + at + u, dReset + at + u, dt - state + at + u, first, true, recurrent)
      for (; u < row; u += 4) gruResetGradient(zt + 3 * at + u, row, ht + at + u, dReset + at + u, dt - state + at + u, first, false, recurrent)
    }
    if (first) return
    smallPanels(zt, 3 * row, 4, packed, 32, <usize>units << 6, dt - state, row, batch, units, 2 * units, 1, true)
  }
}


function gruAfterCell(z: usize, gate: usize, h: usize, product: usize, next: usize, bias: usize, whole: bool, activation: i32, recurrent: i32): void {
  let keep = readPart(z, whole)
  let r = readPart(z + gate, whole)
  let q = readPart(product, whole)
  if (bias) {
    keep = f32x4.add(keep, readPart(bias, whole))
    r = f32x4.add(r, readPart(bias + gate, whole))
    q = f32x4.add(q, readPart(bias + 2 * gate, whole))
    writePart(product, q, whole)
  }
  keep = activateAny(recurrent, keep)
  r = activateAny(recurrent, r)
  const candidate = activateAny(activation, f32x4.add(readPart(z + 2 * gate, whole), f32x4.mul(r, q)))
  writePart(z, keep, whole)
  writePart(z + gate, r, whole)
  writePart(z + 2 * gate, candidate, whole)
  writePart(next, f32x4.add(candidate, f32x4.mul(keep, f32x4.sub(readPart(h, whole), candidate))), whole)
}

/**
 * As gruForward, with the reset after the product. product[T, batch, units]: h times the candidate's weights plus its bias.
 * bias[3 units]: what is added to h times the weights; 0 where there is none.
 */
export function gruAfterForward(
  z: usize, weights: usize, packed: usize, h: usize, product: usize,
  steps: i32, batch: i32, units: i32, activation: i32, recurrent: i32, bias: usize,
): void {
  const row = <usize>units << 2
  const state = row * batch
  const packedCandidate = packed + (<usize>units << 5) * ((2 * units + 7) >> 3)
  packPanels(weights, 3 * row, 4, packed, 2 * units, units)
  packPanels(weights + 2 * row, 3 * row, 4, packedCandidate, units, units)
  memory.fill(h, 0, state)
  for (let t = 0; t < steps; t++) {
    smallPanels(h, row, 4, packed, 32, <usize>units << 5, z, 3 * row, batch, 2 * units, units, 1, true)
    smallPanels(h, row, 4, packedCandidate, 32, <usize>units << 5, product, row, batch, units, units, 1, false)
    const next = h + state
    for (let b: usize = 0; b < <usize>batch; b++) {
      let size: usize = 16
      for (let u: usize = 0; u < row; u += size) {
        const whole = u + 16 <= row
        size = whole ? 16 : 4
        const at = b * row + u
        gruAfterCell(z + 3 * b * row + u, row, h + at, product + at, next + at, bias ? bias + u : 0, whole, activation, recurrent)
      }
    }
    z += 3 * state
    h = next
    product += state
  }
}

function gruAfterGradient(z: usize, gate: usize, h: usize, product: usize, dh: usize, dBefore: usize, first: bool, whole: bool, activation: i32, recurrent: i32): void {
  const keep = readPart(z, whole)
  const r = readPart(z + gate, whole)
  const candidate = readPart(z + 2 * gate, whole)
  const gradient = readPart(dh, whole)
  const kept = f32x4.mul(gradient, keep)
  const toCandidate = through(activation, candidate, f32x4.sub(gradient, kept))
  writePart(z, through(recurrent, keep, f32x4.mul(gradient, f32x4.sub(readPart(h, whole), candidate))), whole)
  writePart(z + gate, through(recurrent, r, f32x4.mul(toCandidate, readPart(product, whole))), whole)
  writePart(z + 2 * gate, toCandidate, whole)
  writePart(product, f32x4.mul(toCandidate, r), whole)
  if (!first) writePart(dBefore, f32x4.add(readPart(dBefore, whole), kept), whole)
}

/** As gruBackward; product becomes its gradient. No scratch but packed. */
export function gruAfterBackward(
  z: usize, weights: usize, packed: usize, h: usize, product: usize, dh: usize,
  steps: i32, batch: i32, units: i32, activation: i32, recurrent: i32,
): void {
  const row = <usize>units << 2
  const state = row * batch
  const panels = <usize>((units + 7) >> 3)
  const packedCandidate = packed + (<usize>units << 6) * panels
  packPanels(weights, 4, 3 * row, packed, units, 2 * units)
  packPanels(weights + 2 * row, 4, 3 * row, packedCandidate, units, units)
  for (let t = <usize>steps - 1; ; t--) {
    const first = t == 0
    const zt = z + 3 * t * state
    const ht = h + t * state
    const qt = product + t * state
    const dt = dh + t * state
    for (let b: usize = 0; b < <usize>batch; b++) {
      let size: usize = 16
      for (let u: usize = 0; u < row; u += size) {
        const whole = u + 16 <= row
        size = whole ? 16 : 4
        const at = b * row + u
        gruAfterGradient(zt + 3 * b * row + u, row, ht + at, qt + at, dt + at, dt - state + at, first, whole, activation, recurrent)
      }
    }
    if (first) return
    smallPanels(zt, 3 * row, 4, packed, 32, <usize>units << 6, dt - state, row, batch, units, 2 * units, 1, true)
    smallPanels(qt, row, 4, packedCandidate, 32, <usize>units << 5, dt - state, row, batch, units, units, 1, true)
  }
}
