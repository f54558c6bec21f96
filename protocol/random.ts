/**
 * A seeded generator, passed by hand: nothing in protocol/ draws chance from anywhere else.
 * Source: sfc32 by Chris Doty-Humphrey (PractRand), seeded through splitmix32. Not for keys or nonces.
 */
export interface Random {
  /** Uniform in [0, 1). */
  (): number
}

/** A generator whose whole sequence follows from `seed` (any finite number; its low 53 bits count). */
export function randomFrom(seed: number): Random {
  const next = splitmix32(seed)
  let a = next()
  let b = next()
  let c = next()
  let counter = 1
  const draw = () => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + sum) | 0
    return (sum >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 12; i++) draw()
  return draw
}

/** An integer in [0, below). */
export function integerBelow(random: Random, below: number): number {
  return Math.floor(random() * below)
}

/** One element at random, or undefined of an empty list. */
export function pick<T>(random: Random, list: readonly T[]): T | undefined {
  return list[integerBelow(random, list.length)]
}

/** Shuffles in place and returns the list (Fisher and Yates). */
export function shuffle<T extends { [index: number]: unknown; length: number }>(
  random: Random,
  list: T,
): T {
  for (let i = list.length - 1; i > 0; i--) {
    const j = integerBelow(random, i + 1)
    const held = list[i]
    list[i] = list[j]
    list[j] = held
  }
  return list
}

/** A standard normal draw (Box and Muller). */
export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
}

function splitmix32(seed: number): () => number {
  let state = ((seed | 0) + Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b)) | 0
  return () => {
    state = (state + 0x9e3779b9) | 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
}
