import { join } from 'node:path'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { listVersion } from '../../node/list.ts'
import { type ManifestDraft, readManifest } from '../../protocol/manifest.ts'
import { makeVersion } from '../../protocol/ports/version.ts'
import { randomFrom } from '../../protocol/random.ts'
import { anyPort } from './libp2p.ts'
import { noLimits, tableDraft, tableModel } from './versions.ts'

const ONLINE_LIMIT_MS = 10_000

/** A peer in this process that lists the tiny model and serves it: where real processes meet. */
export interface Meeting {
  host: Host
  cid: string
  /** For --join. */
  address: string
}

/** `dir` gets its home; `change` goes into the model's manifest; those it joins list the model, too. */
export async function startMeeting(
  dir: string,
  { change = {}, join: addresses = [] }: { change?: Partial<ManifestDraft>; join?: string[] } = {},
): Promise<Meeting> {
  const home = await openHome(join(dir, 'meeting'))
  const host = await startHost({ home, join: addresses, listen: [anyPort] })
  if (addresses.length > 0) await host.online(ONLINE_LIMIT_MS)
  const owner = (await home.ownerKey()).publicKey.toString()
  const draft = { manifest: { ...tableDraft, ...change }, ...tableModel(), extra: new Map() }
  const files = await makeVersion(draft, owner, noLimits)
  const cid = await host.store.addVersion(files)
  await listVersion(host, readManifest(files.get('mlstore.json')!), cid, { alone: true })
  await host.announce({ cid, genesis: cid })
  return { host, cid, address: host.libp2p.getMultiaddrs()[0]!.toString() }
}

/** A table that the tiny model learns: `yes` where x + y > z. */
export function tinyRows(count: number, seed: number): string {
  const random = randomFrom(seed)
  const rows = Array.from({ length: count }, () => {
    const [x = 0, y = 0, z = 0] = [0, 1, 2].map(() => 2 * random() - 1)
    return [x, y, z, x + y > z ? 'yes' : 'no'].join()
  })
  return `x,y,z,label\n${rows.join('\n')}\n`
}
