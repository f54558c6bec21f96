import { describe, expect, test } from 'vitest'
import { partnerAt } from '../../../protocol/peer/schedule.ts'

const groupOf = (size: number) => Array.from({ length: size }, (_, i) => `p${i}`)
const pairsAt = (group: string[], turn: number) => group.map((id) => partnerAt(group, id, turn))

describe.each([2, 3, 4, 5, 8, 9])('a group of %d', (size) => {
  const group = groupOf(size)
  const turns = size - 1 + (size % 2)

  test('is in pairs at every turn: whoever one meets meets that one', () => {
    for (let turn = 0; turn < 2 * turns; turn++) {
      const partners = pairsAt(group, turn)
      expect(partners.filter((partner) => partner === undefined)).toHaveLength(size % 2)
      partners.forEach((partner, i) => {
        if (partner === undefined) return
        expect(partner).not.toBe(group[i])
        expect(partners[group.indexOf(partner)]).toBe(group[i])
      })
    }
  })

  test('has met in all pairs after as many turns as it has others', () => {
    for (const self of group) {
      const met = Array.from({ length: turns }, (_, turn) => partnerAt(group, self, turn))
      expect(new Set(met.filter((id) => id !== undefined)).size).toBe(size - 1)
    }
  })
})

test('four hold the average of all after any two turns', () => {
  for (let turn = 0; turn < 6; turn++) {
    const group = groupOf(4)
    const values = [0, 4, 20, 64]
    for (const at of [turn, turn + 1])
      pairsAt(group, at).forEach((partner, i) => {
        const j = group.indexOf(partner!)
        if (i < j) values[i] = values[j] = (values[i]! + values[j]!) / 2
      })
    expect(values).toEqual([22, 22, 22, 22])
  }
})

test('who is alone has nobody to meet', () => {
  expect(partnerAt(['p0'], 'p0', 7)).toBeUndefined()
})
