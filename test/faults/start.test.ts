import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { anyPort } from '../support/libp2p.ts'
import { type Meeting, startMeeting } from '../support/meeting.ts'

/** A peer whose relay, bootstrap and friends are all gone starts as ever, and is there for who comes. */
const LIMIT_MS = 30_000
/** Nobody listens there; connections are refused at once. */
const dead = '/ip4/127.0.0.1/tcp/9/p2p/12D3KooWJDwWc1wTDhBqvcbuJ8kkFmaaoDVW6bbGkSxVyUfEsARx'
let dir: string
let meeting: Meeting
/** Takes connections and says nothing. */
const mute = createServer()
let silent: string
beforeAll(async () => {
  await new Promise((resolve) => mute.listen(0, '127.0.0.1', () => resolve(undefined)))
  const { port } = mute.address() as AddressInfo
  silent = dead.replace('/tcp/9/', `/tcp/${port}/`)
  dir = await mkdtemp(join(tmpdir(), 'mlstore-start-'))
  meeting = await startMeeting(dir)
}, LIMIT_MS)
afterAll(async () => {
  mute.close()
  await meeting.host.close()
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
})

async function startWith(name: string, listen: string[], addresses: string[]): Promise<Host> {
  return startHost({ home: await openHome(join(dir, name)), join: addresses, listen })
}

test.each([
  ['refuses', () => dead],
  ['is silent', () => silent],
])(
  'a configured relay that %s does not keep a peer from starting, nor from its swarm',
  async (name, relayOf) => {
    const relay = relayOf()
    const listen = [anyPort, `${relay}/p2p-circuit`]
    const host = await startWith(name, listen, [relay, meeting.address])
    await host.online(LIMIT_MS)
    const { manifest } = await host.store.fetchVersion(meeting.cid, {
      providers: [meeting.address],
    })
    expect(manifest.name).toBe('tiny')
    await host.close()
  },
  LIMIT_MS,
)

test(
  'with dead addresses alone a peer starts, and another finds it',
  async () => {
    const host = await startWith('alone', [anyPort], [dead, silent])
    const friend = await startWith('friend', [anyPort], [host.addresses()[0]!])
    await friend.online(LIMIT_MS)
    expect(friend.registry.registries().map(String)).toEqual([host.libp2p.peerId.toString()])
    await friend.close()
    await host.close()
  },
  LIMIT_MS,
)
