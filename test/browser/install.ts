import { spawnSync } from 'node:child_process'
import { executablePath } from './chromium.ts'

/** `npm run browser:install`: a Chromium for the tests, from Debian's packages, where there is none. It asks for root's rights. */
if (executablePath) {
  process.stdout.write(`${executablePath} is there\n`)
} else {
  const isRoot = process.getuid?.() === 0
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', 'chromium']]) {
    const command = [...(isRoot ? [] : ['sudo']), 'apt-get', ...args]
    const { status, error } = spawnSync(command[0]!, command.slice(1), { stdio: 'inherit' })
    if (status === 0) continue
    process.stderr.write(
      `${command.join(' ')} did not work (${error?.message ?? `it ended with ${status}`}): install Chromium or Chrome by hand\n`,
    )
    process.exit(1)
  }
}
