import { createSocket } from 'node:dgram'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { afterAll, expect, test } from 'vitest'
import type { Health } from '../../bootstrap/host.ts'
import { signListing } from '../../protocol/listing.ts'
import { readCard } from '../../protocol/message.ts'
import { registryClient } from '../../protocol/ports/registry.ts'
import { anyPorts, bootstraps } from '../support/bootstrap.ts'
import { newKey, nodes } from '../support/libp2p.ts'

const processes = bootstraps()
const all = nodes()
afterAll(async () => {
  await all.stop()
  await processes.end()
})

const STOP_LIMIT_MS = 3_000

test('key, certificate and listings survive a restart, and each end takes less than 3 s', async () => {
  const home = await processes.home()
  const first = await processes.start([...anyPorts, '--home', home])
  expect(first.addresses).toHaveLength(3)
  expect(first.addresses.every((address) => address.endsWith(`/p2p/${first.peer}`))).toBe(true)
  expect((await putOne(first.addresses)).accepted).toEqual([first.peer])
  expect(await healthOf(first.health)).toMatchObject({
    status: 'ok',
    listings: 1,
    cards: 0,
    reservations: 0,
  })

  const stoppedAt = performance.now()
  expect(await first.stop('SIGINT')).toBe(130)
  expect(performance.now() - stoppedAt).toBeLessThan(STOP_LIMIT_MS)

  const second = await processes.start([...anyPorts, '--home', home])
  expect(second.peer).toBe(first.peer)
  expect(certificateOf(second.addresses)).toBe(certificateOf(first.addresses))
  expect(await healthOf(second.health)).toMatchObject({ listings: 1 })

  const rival = await processes.run([...anyPorts, '--home', home])
  expect(rival.code).toBe(8)
  expect(rival.stderr).toContain(`another process uses the home ${home}`)
  expect(await second.stop('SIGTERM')).toBe(143)
})

test('a port in use is one line that names it, and exit code 8', async () => {
  const tcp = createServer().listen(0, '127.0.0.1')
  const udp = createSocket('udp4').bind(0, '127.0.0.1')
  await Promise.all(
    [tcp, udp].map((socket) => new Promise((resolve) => socket.once('listening', resolve))),
  )
  const taken = (tcp.address() as AddressInfo).port
  const takenUdp = udp.address().port
  const cases: [string, number][] = [
    ['--tcp', taken],
    ['--ws', taken],
    ['--http', taken],
    ['--udp', takenUdp],
  ]
  try {
    for (const [flag, port] of cases) {
      const home = await processes.home()
      const { code, stdout, stderr } = await processes.run([
        ...anyPorts,
        '--home',
        home,
        flag,
        String(port),
      ])
      expect(stdout, flag).toBe('')
      expect(stderr, flag).toMatch(
        new RegExp(`^mlstore-bootstrap: cannot listen on .*${port}.*\n$`),
      )
      expect(code, flag).toBe(8)
    }
  } finally {
    tcp.close()
    udp.close()
  }
})

test('a wrong option, port, host or address is one line and exit code 2', async () => {
  const cases = [
    ['--bogus'],
    ['--tcp', '70000'],
    ['--host', 'example.org'],
    ['--announce', 'localhost:1'],
    ['extra'],
  ]
  const ends = await Promise.all(cases.map((args) => processes.run(args)))
  for (const [i, { code, stdout, stderr }] of ends.entries()) {
    expect(code, cases[i]!.join(' ')).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^mlstore-bootstrap: .*\n$/)
  }
})

test('with --json a failure is an object on stdout', async () => {
  const { code, stdout } = await processes.run(['--bogus', '--json'])
  expect(JSON.parse(stdout)).toMatchObject({
    ev: 'failed',
    code,
    type: 'wrong-option',
    hint: expect.any(String),
  })
})

test('the help names every option and shows a line to copy', async () => {
  const { code, stdout } = await processes.run(['--help'])
  expect(code).toBe(0)
  for (const part of [
    '--ws',
    '--tcp',
    '--udp',
    '--http',
    '--home',
    '--announce',
    '--json',
    '--join',
  ]) {
    expect(stdout).toContain(part)
  }
})

async function putOne(addresses: string[]) {
  const peer = await all.start({ listen: [] })
  const client = await registryClient(peer, { readCard })
  const reached = client.waitForRegistry(AbortSignal.timeout(10_000))
  await peer.dial(multiaddr(addresses.find((address) => address.includes('/ws/'))!))
  await reached
  const version = CID.createV1(0x55, await sha256.digest(Uint8Array.of(1))).toString()
  const draft = {
    name: 'digits',
    title: 'Digits',
    task: 'image-classification',
    tags: [],
    labels: [],
    bytes: 1,
    sequence: 1,
  }
  const listing = await signListing(
    { ...draft, genesis: version, version, manifestVersion: '1.0.0' },
    await newKey(),
    Date.now(),
  )
  return client.put(listing)
}

async function healthOf(url: string): Promise<Health> {
  const response = await fetch(url)
  expect(response.status).toBe(200)
  return (await response.json()) as Health
}

function certificateOf(addresses: string[]): string | undefined {
  return addresses.map((address) => /certhash\/([^/]+)/.exec(address)?.[1]).find(Boolean)
}
