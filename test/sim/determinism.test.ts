import { expect, test } from 'vitest'
import { fingerprint } from './metrics.ts'
import { play } from './play.ts'
import { scenarios } from './scenarios/table.ts'

const cast = { peers: 12, seed: 5, rounds: 12 }

test.each(scenarios)('$name: the same seed gives the same run to the last bit', (scenario) => {
  const [first, second] = [play(scenario, cast), play(scenario, cast)]
  expect(fingerprint(second)).toBe(fingerprint(first))
  expect(second.handled).toBe(first.handled)
})

test.each(scenarios)('$name: another seed gives another', (scenario) => {
  const other = play(scenario, { ...cast, seed: 6 })
  expect(fingerprint(other)).not.toBe(fingerprint(play(scenario, cast)))
})
