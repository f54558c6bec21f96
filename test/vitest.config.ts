import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

/** Test files at once: the machine that checks a change has two cores, and most files wait for peers of their own. */
const WORKERS = 3

/** A test may start real processes; one that hangs fails after this. Longer limits stand at the test that needs them. */
const TEST_LIMIT_MS = 30_000

/** What a test polls for has come within this. */
const POLL_LIMIT_MS = 10_000

/** Compiled code of the programs that tests start, as node/mlstore.js keeps it for its user: over a hundred starts load the same files. */
const compiled = join(tmpdir(), 'ml-store-test-compiled')

const shared = {
  globalSetup: new URL('./support/programs.ts', import.meta.url).pathname,
  env: { NODE_COMPILE_CACHE: compiled },
  pool: 'forks',
  testTimeout: TEST_LIMIT_MS,
  hookTimeout: TEST_LIMIT_MS,
  teardownTimeout: 5_000,
  // What is waited for comes in milliseconds, or in seconds where every core is busy.
  expect: { poll: { timeout: POLL_LIMIT_MS } },
  globals: false,
} as const

/** Two projects: `node`, and after it `browser`, one file at a time, for a Chromium takes all cores. */
export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    passWithNoTests: false,
    reporters: ['default', new URL('./support/tally.ts', import.meta.url).pathname],
    projects: [
      {
        test: {
          ...shared,
          name: 'node',
          include: ['test/**/*.test.ts'],
          exclude: ['test/browser/**', '**/node_modules/**'],
          maxWorkers: WORKERS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
