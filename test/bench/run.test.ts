import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { isFull } from '../faults/every.ts'

/** That benches run and say what they promise; how fast anything is, no test asks. */
const run = promisify(execFile)
const bench = (...args: string[]) =>
  run(process.execPath, [fileURLToPath(new URL('./run.ts', import.meta.url)), ...args])
const LIMIT_MS = 600_000

const keys = {
  skew: [
    'epochs',
    'H',
    'swapsPerRound',
    'alone',
    'central',
    'fedavg',
    'mean',
    'worst',
    'bytesUpPerPeer',
  ],
  bytes: ['peers', 'params', 'swapBytesPerRound', 'chatterBytesPerSecond'],
  swap: ['transport', 'megabytes', 'ratio', 'extraMs', 'peakExtraBytes'],
  overhead: ['ratio', 'ratioH10'],
  memory: ['bareMB', 'idleMB', 'trainingMB', 'slopeMBPerHour'],
  start: ['bareMs', 'joinedMs', 'firstSwapMs', 'helpMs'],
  train: [
    ...['model', 'engine', 'threads', 'simd', 'stepsPerSecond'],
    ...['ofPyTorch', 'ofWasmPeak', 'ofOneThread'],
  ],
  browser: ['model', 'threads', 'simd', 'stepsPerSecond', 'ofNode'],
  page: [
    ...['firstPaintKB', 'totalKB', 'firstStepMs', 'firstSwapMs'],
    ...['blockedMsP99', 'ofNode', 'heapSlopeMBPerHour'],
    ...['tabSwapMBps', 'tabSwapDiscarded', 'tabSwapOfBare', 'browsersSwapMBps'],
  ],
  crowd: [
    'mixed',
    'nodes',
    'tabs',
    'peers',
    'doubles',
    'connections',
    'openAtOnce',
    'swapsPerMinute',
  ],
  large: [
    ...['megabytes', 'firstStepMs', 'firstSwapMs'],
    ...['roundsPerMinute', 'swapsPerMinute', 'peakMB'],
  ],
}

test('without a name it lists every bench with the figure to reach', async () => {
  const { stdout } = await bench()
  const lines = stdout.trimEnd().split('\n')
  expect(lines.map((line) => line.split(' ')[0])).toEqual(Object.keys(keys))
  for (const line of lines) expect(line).toMatch(/[<>]= \S/)
})

test('an unknown name is refused with those there are', async () => {
  const fault = await bench('sekw').then(
    () => undefined,
    (error: { code: number; stderr: string }) => error,
  )
  expect(fault?.code).toBe(2)
  expect(fault?.stderr).toContain(
    'choose of skew, bytes, swap, overhead, memory, start, train, browser, page, crowd, large and all',
  )
})

test.runIf(isFull).each(Object.entries(keys))(
  '%s ends with one JSON object that has its keys',
  async (name, wanted) => {
    const { stdout } = await bench(name, '--quick', '--json')
    const last = JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
    expect(last.bench).toBe(name)
    for (const figures of last.runs ?? [last]) {
      for (const key of wanted) expect(figures, key).toHaveProperty(key)
    }
  },
  LIMIT_MS,
)
