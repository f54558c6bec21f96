import type { Reporter, TestModule } from 'vitest/node'

/**
 * Closes the log of a run with one plain line, 'N passed, N failed', for readers that know no test runner. What was skipped is
 * named before it: nothing is left out in silence.
 */
export default class Tally implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const broken = modules.filter((module) => module.errors().length > 0).length + errors.length
    const count = (state: string) => tests.filter((test) => test.result().state === state).length
    const skipped = tests.filter((test) => test.result().state === 'skipped')
    const names = skipped.map((test) => `skipped: ${test.fullName}\n`).join('')
    process.on('exit', () =>
      process.stdout.write(
        `\n${names}${count('passed')} passed, ${count('failed') + broken} failed\n`,
      ),
    )
  }
}
