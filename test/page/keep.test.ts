import { beforeEach, expect, test, vi } from 'vitest'
import {
  loadCost,
  loadSettings,
  loadTraffic,
  saveCost,
  saveSettings,
  saveTraffic,
} from '../../browser/keep.ts'

beforeEach(() => {
  const kept = new Map<string, string>()
  vi.stubGlobal('localStorage', {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
  })
  return () => vi.unstubAllGlobals()
})

const usual = { theme: 'auto', rounds: 0, intensity: 1, megabytes: 0, shortcuts: true }

test('settings come back as they were saved, and a first visit has the usual ones', () => {
  expect(loadSettings()).toEqual(usual)
  const mine = {
    theme: 'dark',
    rounds: 30,
    intensity: 0.25,
    megabytes: 500,
    shortcuts: false,
  } as const
  saveSettings(mine)
  expect(loadSettings()).toEqual(mine)
})

test.each([
  ['no JSON', '{"theme":'],
  ['a list', '[1, 2]'],
  ['other values', '{"theme":"pink","rounds":-3,"intensity":0,"megabytes":1.5}'],
  ['other types', '{"theme":1,"megabytes":null,"rounds":"9","intensity":"0.5"}'],
])('kept settings that are %s are the usual ones', (_, kept) => {
  localStorage.setItem('mlstore.settings', kept)
  expect(loadSettings()).toEqual(usual)
})

test('traffic comes back as it was saved; what is no traffic is none', () => {
  expect(loadTraffic()).toBeUndefined()
  saveTraffic({ day: '2026-11-24', bytes: 51_000 })
  expect(loadTraffic()).toEqual({ day: '2026-11-24', bytes: 51_000 })
  localStorage.setItem('mlstore.traffic', '{"day":20261124,"bytes":9}')
  expect(loadTraffic()).toBeUndefined()
})

test('the cost of a version comes back as it was measured last, by whichever backend', () => {
  const cost = (backend: string, at: number) => ({ backend, at, msPerStep: 2, remarks: ['slow'] })
  expect(loadCost('bafyone')).toBeUndefined()
  saveCost('bafyone', cost('engine', 1))
  saveCost('bafyone', cost('webgpu', 2))
  saveCost('bafytwo', cost('engine', 3))
  expect(loadCost('bafyone')).toEqual(cost('webgpu', 2))
  saveCost('bafyone', cost('engine', 4))
  expect(loadCost('bafyone')).toEqual(cost('engine', 4))
  for (let i = 0; i < 64; i++) saveCost(`bafy${i}`, cost('engine', i))
  expect(loadCost('bafyone')).toBeUndefined()
})

test.each([
  ['a word', '"engine"'],
  ['no list', '{"kept":{"cid":"bafyone"}}'],
  [
    'a time that is none',
    '{"kept":[{"cid":"bafyone","cost":{"backend":"engine","msPerStep":null}}]}',
  ],
  [
    'remarks that are none',
    '{"kept":[{"cid":"bafyone","cost":{"backend":"engine","msPerStep":1,"at":1,"remarks":[{}]}}]}',
  ],
])('a kept cost that is %s is none', (_, kept) => {
  localStorage.setItem('mlstore.costs', kept)
  expect(loadCost('bafyone')).toBeUndefined()
})
