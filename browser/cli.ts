import type { NetworkView, OpenVersion } from './services.ts'
import type { Settings } from './state.ts'

/** The same deeds on the command line: each action of the page shows its own. */

/** With the limits that a person set; for others, without. */
export function cliTrain(
  { cid, manifest }: OpenVersion,
  network: NetworkView,
  settings: Pick<Settings, 'rounds' | 'intensity'> = { rounds: 0, intensity: 1 },
): string {
  const data = manifest.input.kind === 'image' ? './mine' : 'mine.csv'
  return `mlstore train ${cid} --data ${data}${limitsOf(settings)}${joins(network)}`
}

/** A run and its figures: one event a line goes into the file. */
export function cliRun(
  version: OpenVersion,
  network: NetworkView,
  settings: Pick<Settings, 'rounds' | 'intensity'>,
): string[] {
  const line = cliTrain(version, network, settings)
  return [line, `${line} --json > rounds.jsonl`]
}

/** The limits that are set, for whatever is trained. */
export function cliLimits(settings: Pick<Settings, 'rounds' | 'intensity'>): string {
  return `mlstore train MODEL --data DATA${limitsOf(settings)}`
}

function limitsOf({ rounds, intensity }: Pick<Settings, 'rounds' | 'intensity'>): string {
  const most = rounds > 0 ? ` --rounds ${rounds}` : ''
  return intensity < 1 ? `${most} --intensity ${100 * intensity}` : most
}

export function cliPredict({ cid, manifest }: OpenVersion, network: NetworkView): string {
  const file = manifest.input.kind === 'image' ? 'one.png' : 'rows.csv'
  return `mlstore predict ${cid} ${file}${joins(network)}`
}

/** Many at once: how often it is right, and what it says of each. */
export function cliMany(version: OpenVersion, network: NetworkView): string[] {
  const { cid, manifest } = version
  const files = manifest.input.kind === 'image' ? 'mine/*/*.png' : 'mine.csv'
  const each = `mlstore predict ${cid} ${files}${joins(network)} --json > predictions.json`
  return [cliEval(version, network), each]
}

function cliEval({ cid, manifest }: OpenVersion, network: NetworkView): string {
  const data = manifest.input.kind === 'image' ? './mine' : 'mine.csv'
  return `mlstore eval ${cid} --data ${data}${joins(network)}`
}

/** A model of one's own; it is served until the command ends. */
export const cliPublish = 'mlstore publish ./my-model --serve'

export function cliShow(cid: string, network: NetworkView): string {
  return `mlstore show ${cid}${joins(network)}`
}

/** A version's directory, files and all. */
export function cliPull(cid: string, network: NetworkView): string {
  return `mlstore pull ${cid} -o ./model${joins(network)}`
}

/** `task`: the model's, where a listing tells it; without one nobody here knows what it takes. */
export function cliGoOn(cid: string, task: string | undefined, network: NetworkView): string {
  const data = { 'image-classification': './mine', 'tabular-classification': 'mine.csv' }[
    task ?? ''
  ]
  return `mlstore train ${cid} --data ${data ?? 'DATA'}${joins(network)}`
}

/** The same, from the model as it was published. */
export function cliAnew(...model: Parameters<typeof cliGoOn>): string {
  return `${cliGoOn(...model)} --fresh`
}

export function cliSeed(cid: string, network: NetworkView): string {
  return `mlstore seed ${cid}${joins(network)}`
}

/** A program takes away what is published; what it trained itself becomes a version first, which its owner alone can make. */
export function cliTake(cid: string, isTrained: boolean, network: NetworkView): string[] {
  const mine = [
    '# as mlstore trained it: its owner makes a version of it',
    cliRelease(cid, network),
  ]
  return ['# as published', cliExport(cid, network), ...(isTrained ? mine : [])]
}

function cliRelease(cid: string, network: NetworkView): string {
  return `mlstore release ${cid}${joins(network)}`
}

/** The key's file; mlstore asks for its passphrase. */
export const cliKey = ['mlstore key export owner.json', 'mlstore key import owner.json']

/** `address`: what a person pasted, before what the page itself reaches. */
export function cliDoctor(address: string, network: NetworkView): string {
  const asked = /^\/[\w/.:%-]+$/.test(address) ? ` --join ${address}` : joins(network)
  return `mlstore doctor${asked}`
}

function cliExport(cid: string, network: NetworkView): string {
  return `mlstore export ${cid} -o ./weights --format safetensors${joins(network)}`
}

export function cliList({ query }: { query: string }, network: NetworkView): string {
  return `mlstore ls${query && ` '${query.replaceAll("'", "'\\''")}'`}${joins(network)}`
}

/** One address is enough to find the rest; a relayed one is no use to a program that cannot be introduced. */
function joins({ addresses }: NetworkView): string {
  const [address] = addresses.map(relayOf).filter((found) => found !== undefined)
  return address === undefined ? '' : ` --join ${address}`
}

/** The relay in front of our own address: a peer that runs the listing protocol, or knows who does. */
export function relayOf(address: string): string | undefined {
  const [relay, rest] = address.split('/p2p-circuit')
  return rest === undefined ? undefined : relay
}
