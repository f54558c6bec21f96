import { createSocket } from 'node:dgram'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { afterEach, describe, expect, test } from 'vitest'
import { openHome } from '../../node/home.ts'
import { type Host, type HostOptions, startHost } from '../../node/host.ts'
import { listVersion } from '../../node/list.ts'
import { Fault } from '../../protocol/errors.ts'
import { signListing } from '../../protocol/listing.ts'
import { type Manifest, readManifest } from '../../protocol/manifest.ts'
import { fetchResolved, readReference, resolveModel } from '../../protocol/ports/resolve.ts'
import { checkVersion, filesOf, makeChild, makeVersion } from '../../protocol/ports/version.ts'
import { noLimits, tableDraft, tableModel } from '../support/versions.ts'

const ONLINE_LIMIT_MS = 10_000
const local = ['/ip4/127.0.0.1/tcp/0']

const hosts: Host[] = []
const dirs: string[] = []
afterEach(async () => {
  for (const host of hosts.splice(0).reverse()) await host.close()
  for (const dir of dirs.splice(0)) await rm(dir, { recursive: true, force: true })
})

test('a peer comes back at the same addresses and finds, with no bootstrap, whom it met', async () => {
  const first = await start({ listen: undefined })
  const second = await start({ join: [loopback(first)] })
  await second.online(ONLINE_LIMIT_MS)
  await publish(first)
  await resolveModel('tiny', second, { timeoutMs: ONLINE_LIMIT_MS })
  const before = tcpAddresses(first)
  await close(second)
  await close(first)
  const again = await startHost({ home: await openHome(first.home.dir), join: [] })
  hosts.push(again)
  expect(tcpAddresses(again)).toEqual(before)
  const met = await startHost({ home: await openHome(second.home.dir), join: [], listen: local })
  hosts.push(met)
  await met.online(ONLINE_LIMIT_MS)
  expect((await resolveModel('tiny', met, { timeoutMs: ONLINE_LIMIT_MS })).listing?.name).toBe(
    'tiny',
  )
})

test('a port that another program took meanwhile gives way to a free one; the others stay', async () => {
  const first = await start({ listen: undefined })
  const [taken, kept] = portsOf(first)
  await close(first)
  const other = createServer().listen(taken, '0.0.0.0')
  try {
    const again = await startHost({ home: await openHome(first.home.dir), join: [] })
    hosts.push(again)
    const [fresh, same] = portsOf(again)
    expect(fresh).not.toBe(taken)
    expect(same).toBe(kept)
  } finally {
    other.close()
  }
})

test('a UDP port that another program has is refused by its name', async () => {
  const other = createSocket('udp4')
  await new Promise<void>((resolve) => other.bind(0, '127.0.0.1', resolve))
  const address = `/ip4/127.0.0.1/udp/${other.address().port}/webrtc-direct`
  const fault = await faultOf(start({ listen: [address] }))
  other.close()
  expect(fault.detail).toMatchObject({ type: 'port-in-use', address })
})

test('a model is found by name, by number, by CID and by share link', async () => {
  const owner = await start()
  const genesis = await publish(owner)
  const child = await release(owner, genesis.cid, '1.1.0')
  const reader = await start({ join: owner.addresses() })
  const find = async (text: string) =>
    (await resolveModel(text, reader, { timeoutMs: ONLINE_LIMIT_MS })).cid
  expect(await find('tiny')).toBe(child)
  expect(await find('tiny@latest')).toBe(child)
  expect(await find('tiny@1.1.0')).toBe(child)
  expect(await find('tiny@1.0.0')).toBe(genesis.cid)
  expect(await find(`tiny@${genesis.cid}`)).toBe(genesis.cid)
  expect(await find(genesis.cid)).toBe(genesis.cid)
  expect(await find(`${genesis.cid}@latest`)).toBe(child)
  const stranger = await start()
  const link = `https://example.org/#/m/${child}?via=${encodeURIComponent(loopback(owner))}`
  const found = await resolveModel(link, stranger, { timeoutMs: ONLINE_LIMIT_MS })
  expect((await fetchResolved(stranger, found)).manifest.version).toBe('1.1.0')
  expect((await faultOf(find('tiny@9.0.0'))).detail.type).toBe('version-not-found')
})

describe("nobody without the owner's key moves latest:", () => {
  test('a listing in which a thief points to the owner’s version is refused', async () => {
    const owner = await start()
    const { cid, manifest } = await publish(owner, { list: false })
    await putAs(owner, manifest, cid, { name: 'stolen' })
    const reader = await start({ join: owner.addresses() })
    const found = await resolveModel('stolen', reader, { timeoutMs: ONLINE_LIMIT_MS })
    const fault = await faultOf(fetchResolved(reader, found))
    expect(fault.detail).toMatchObject({ kind: 'verification', type: 'wrong-owner' })
    expect(fault.exitCode).toBe(7)
  })

  test('a thief’s child of the genesis is refused, though its own signature holds', async () => {
    const owner = await start()
    const genesis = await publish(owner, { list: false })
    const thief = await start({ join: owner.addresses() })
    await thief.online(ONLINE_LIMIT_MS)
    const child = await release(thief, genesis.cid, '6.6.6')
    const reader = await start({ join: [...thief.addresses(), ...owner.addresses()] })
    await reader.online(ONLINE_LIMIT_MS)
    const found = await resolveModel('tiny@6.6.6', reader, { timeoutMs: ONLINE_LIMIT_MS })
    expect(found.cid).toBe(child)
    expect((await faultOf(fetchResolved(reader, found))).detail.type).toBe('wrong-owner')
  })
})

test('what users type is read, or refused with an example', () => {
  const cid = `bafy${'a'.repeat(55)}`
  expect(readReference('digits')).toEqual({ name: 'digits', at: undefined, via: [] })
  expect(readReference('digits@1.2.0')).toMatchObject({ name: 'digits', at: '1.2.0' })
  expect(readReference(`${cid}@latest`)).toMatchObject({ cid, at: 'latest' })
  expect(
    readReference(`https://a.b/x/#/m/${cid}?via=/ip4/1.2.3.4/tcp/1&via=/ip4/1.2.3.4/tcp/2`),
  ).toEqual({
    cid,
    at: undefined,
    via: ['/ip4/1.2.3.4/tcp/1', '/ip4/1.2.3.4/tcp/2'],
  })
  for (const wrong of ['', 'a b', 'digits@', 'digits@new', '../x', 'a@1.0.0@2.0.0']) {
    expect(() => readReference(wrong)).toThrow(/expected a name such as digits/)
  }
})

async function start(options: Partial<HostOptions> = {}): Promise<Host> {
  const dir = await mkdtemp(join(tmpdir(), 'mlstore-host-'))
  dirs.push(dir)
  const host = await startHost({ home: await openHome(dir), join: [], listen: local, ...options })
  hosts.push(host)
  return host
}

async function close(host: Host): Promise<void> {
  hosts.splice(hosts.indexOf(host), 1)
  await host.close()
}

/** Those without a relay. */
/** libjuice keeps a UDP port until its process ends, so that one stays the same between processes alone. */
function tcpAddresses(host: Host): string[] {
  return host.addresses().filter((address) => /\/tcp\/\d+(\/ws)?\/p2p\/[^/]+$/.test(address))
}

/** Over TCP and over WebSocket. */
function portsOf(host: Host): number[] {
  const portOf = (pattern: RegExp) =>
    Number(
      tcpAddresses(host)
        .map((address) => pattern.exec(address)?.[1])
        .find(Boolean),
    )
  return [portOf(/\/tcp\/(\d+)\/p2p/), portOf(/\/tcp\/(\d+)\/ws/)]
}

function loopback(host: Host): string {
  return host.addresses().find((address) => /^\/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p/.test(address))!
}

async function publish(
  host: Host,
  { list = true } = {},
): Promise<{ cid: string; manifest: Manifest }> {
  const owner = (await host.home.ownerKey()).publicKey.toString()
  const files = await makeVersion(
    { manifest: tableDraft, ...tableModel(), extra: new Map() },
    owner,
    noLimits,
  )
  const manifest = readManifest(files.get('mlstore.json')!)
  const cid = await host.store.addVersion(files)
  if (list) await listVersion(host, manifest, cid, { alone: true })
  await host.announce({ cid, genesis: cid })
  return { cid, manifest }
}

/** Makes a child of a version in this host's own name, and lists it. */
async function release(host: Host, parentCid: string, version: string): Promise<string> {
  const parent = await host.store.fetchVersion(parentCid)
  const owner = (await host.home.ownerKey()).publicKey.toString()
  const change = { version, params: tableModel(4, 2).params }
  const files = await makeChild(
    { cid: parentCid, files: parent, checked: parent.checked },
    change,
    owner,
    noLimits,
  )
  const { manifest } = await checkVersion(filesOf(files), noLimits)
  const cid = await host.store.addVersion(files)
  await listVersion(host, manifest, cid, { alone: true })
  await host.announce({ cid, genesis: parentCid })
  return cid
}

/** A listing of somebody else's version, signed with a key of the thief's own. */
async function putAs(
  host: Host,
  manifest: Manifest,
  cid: string,
  { name }: { name: string },
): Promise<void> {
  const { title, task, output, version } = manifest
  const draft = {
    name,
    title,
    task,
    tags: [],
    labels: output.labels,
    genesis: cid,
    version: cid,
    manifestVersion: version,
    bytes: 1,
    sequence: 1,
  }
  await host.book.put(
    await signListing(draft, await generateKeyPair('Ed25519'), Date.now()),
    Date.now(),
  )
}

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof Fault) return error
  throw new Error(`expected a Fault, got ${error}`, { cause: error })
}
