import { defineConfig } from 'vitest/config'

/** Test files at once: the machine that checks a change has two cores, and most files wait for peers of their own. */
const WORKERS = 3

/** A test may start real processes; one that hangs fails after this. Longer limits stand at the test that needs them. */
const TEST_LIMIT_MS = 30_000

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/browser/**', '**/node_modules/**'],
    pool: 'forks',
    maxWorkers: WORKERS,
    testTimeout: TEST_LIMIT_MS,
    hookTimeout: TEST_LIMIT_MS,
    teardownTimeout: 5_000,
    globals: false,
    passWithNoTests: false,
    reporters: ['default', new URL('./support/tally.ts', import.meta.url).pathname],
  },
})
