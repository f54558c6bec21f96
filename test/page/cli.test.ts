import { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import {
  cliAnew,
  cliDoctor,
  cliGoOn,
  cliKey,
  cliLimits,
  cliList,
  cliMany,
  cliPredict,
  cliPull,
  cliRun,
  cliSeed,
  cliShow,
  cliTake,
  cliTrain,
} from '../../browser/cli.ts'
import type { OpenVersion } from '../../browser/services.ts'
import { initialState } from '../../browser/state.ts'
import type { CommandSpec } from '../../node/command.ts'
import { fill, quietly } from '../../node/parser.ts'
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

test('the limits that are set stand in the line of whatever is trained', () => {
  expect(cliLimits(settings)).toBe('mlstore train MODEL --data DATA --rounds 30 --intensity 25')
  expect(cliLimits({ rounds: 0, intensity: 1 })).toBe('mlstore train MODEL --data DATA')
})

describe('mlstore takes each line that the page shows:', () => {
  const relay = '/ip4/127.0.0.1/tcp/4002/ws/p2p/12D3KooWRelay'
  const far = { ...network, addresses: [`${relay}/p2p-circuit/webrtc/p2p/12D3KooWMe`] }
  const all = [network, far].flatMap((seen) => [
    ...[cliTrain(version, seen), cliTrain(version, seen, settings), cliPredict(version, seen)],
    ...[...cliRun(version, seen, settings), ...cliMany(version, seen), cliLimits(settings)],
    ...[cliShow('bafy', seen), cliPull('bafy', seen), cliSeed('bafy', seen), ...cliKey],
    ...[...cliTake('bafy', true, seen), cliDoctor('', seen), cliDoctor(relay, seen)],
    ...[cliGoOn('bafy', undefined, seen), cliAnew('bafy', 'tabular-classification', seen)],
    ...[cliList({ query: '' }, seen), cliList({ query: "a 'b" }, seen)],
  ])
  const lines = [...new Set(all)].filter((line) => !line.startsWith('#'))

  test.each(lines)('%s', async (line) => {
    const [program, name, ...args] = wordsOf(line)
    expect(program).toBe('mlstore')
    expect(await taken(name!, args)).toBe(true)
  })

  test('and would refuse another', async () => {
    await expect(taken('train', ['bafy', '--data', 'DATA', '--slowly'])).rejects.toThrow('--slowly')
    await expect(taken('train', ['bafy'])).rejects.toThrow('--data')
    await expect(taken('train', ['bafy', '--data', 'a', '--rounds', 'x'])).rejects.toThrow('x')
  })
})

/** As a shell takes it apart; where the output goes is the shell's own. */
function wordsOf(line: string): string[] {
  const command = line.replace(/ > [\w.]+$/, '')
  return [...command.matchAll(/(?:'[^']*'|\\.|[^\s'\\])+/g)].map(([word]) =>
    [...word.matchAll(/'([^']*)'|\\(.)|([^'\\]+)/g)]
      .map(([, quoted, escaped, plain]) => quoted ?? escaped ?? plain)
      .join(''),
  )
}

/** Whether a command's own parser hands these on to it. */
async function taken(name: string, args: string[]): Promise<boolean> {
  const found: Record<string, CommandSpec> = await import(`../../node/commands/${name}.ts`)
  const [spec] = Object.values(found).filter(({ examples }) => examples)
  let isTaken = false
  const command = quietly(new Command(name))
  fill(command, spec!, async () => {
    isTaken = true
  })
  await command.parseAsync(args, { from: 'user' })
  return isTaken
}
