import { defineConfig } from 'vitest/config'
import all from '../vitest.config.ts'

/** Tests that need a browser: they are skipped by name where there is none. One file at a time, for a browser takes its cores. */
export default defineConfig({
  ...all,
  test: { ...all.test, include: ['test/browser/**/*.test.ts'], exclude: [], maxWorkers: 1 },
})
