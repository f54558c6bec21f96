import { expect, test } from 'vitest'
import { cliDoctor, cliGoOn, cliPull, cliSeed, cliTake, cliTrain } from '../../browser/cli.ts'
import type { OpenVersion } from '../../browser/services.ts'
import { initialState } from '../../browser/state.ts'
import { digits } from './manifests.ts'

const version = { cid: 'bafyversion', manifest: digits } as OpenVersion
const settings = {
  theme: 'auto',
  rounds: 30,
  intensity: 0.25,
  megabytes: 0,
  shortcuts: true,
} as const
const { network } = initialState('', settings)

test('the line that trains the same has the limits that are set, and none for others', () => {
  expect(cliTrain(version, network, settings)).toBe(
    'mlstore train bafyversion --data ./mine --rounds 30 --intensity 25',
  )
  expect(cliTrain(version, network)).toBe('mlstore train bafyversion --data ./mine')
})

test('it joins by the relay in front of the page', () => {
  const relay = '/ip4/127.0.0.1/tcp/4002/ws/p2p/12D3KooWRelay'
  const addresses = [`${relay}/p2p-circuit/webrtc/p2p/12D3KooWMe`]
  expect(cliTrain(version, { ...network, addresses })).toMatch(` --join ${relay}`)
})

test('it asks the doctor about the address that was pasted, if it is one, and else about the relay', () => {
  const relay = '/ip4/127.0.0.1/tcp/4002/ws/p2p/12D3KooWRelay'
  const reached = { ...network, addresses: [`${relay}/p2p-circuit/webrtc/p2p/12D3KooWMe`] }
  const asked = '/dns4/a.example/tcp/443/tls/ws'
  expect(cliDoctor(asked, reached)).toBe(`mlstore doctor --join ${asked}`)
  expect(cliDoctor('; rm -rf ~', reached)).toBe(`mlstore doctor --join ${relay}`)
  expect(cliDoctor('', network)).toBe('mlstore doctor')
  expect(cliPull('bafyversion', network)).toBe('mlstore pull bafyversion -o ./model')
})

test('it goes on with the data that the model takes, where a listing says which', () => {
  expect(cliGoOn('bafy', 'tabular-classification', network)).toBe(
    'mlstore train bafy --data mine.csv',
  )
  expect(cliGoOn('bafy', 'image-classification', network)).toBe('mlstore train bafy --data ./mine')
  expect(cliGoOn('bafy', undefined, network)).toBe('mlstore train bafy --data DATA')
})

test('it seeds, takes and releases by the relay, too, and says whose params it takes', () => {
  const relay = '/ip4/127.0.0.1/tcp/4002/ws/p2p/12D3KooWRelay'
  const reached = { ...network, addresses: [`${relay}/p2p-circuit/webrtc/p2p/12D3KooWMe`] }
  expect(cliSeed('bafy', reached)).toBe(`mlstore seed bafy --join ${relay}`)
  expect(cliTake('bafy', false, network)).toEqual([
    ...['# as published', 'mlstore export bafy -o ./weights --format safetensors'],
  ])
  expect(cliTake('bafy', true, reached).at(-1)).toBe(`mlstore release bafy --join ${relay}`)
})
