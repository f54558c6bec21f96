import { type CommandSpec, shared } from '../command.ts'
import { fetchModel, untilStopped, withHost } from '../open.ts'

/** Fetches a version, keeps it, and serves it to whoever asks until Ctrl-C. */
export const seed: CommandSpec = {
  arguments: '<model>',
  options: [shared.join, shared.home, shared.listen, shared.timeout],
  examples: ['mlstore seed digits --join /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo...'],
  async run(context) {
    const { args, print, signal } = context
    await withHost(context, async (host) => {
      const { version } = await fetchModel(context, host, args[0] as string)
      const { cid, manifest } = version
      await host.announce({ cid, genesis: manifest.genesis ?? cid })
      const { name, version: number } = manifest
      const addresses = host.addresses()
      print.answer({
        id: cid,
        object: { cid, name, version: number, addresses },
        text: `${name}@${number} ${cid}`,
      })
      for (const address of addresses) print.note(`reachable at ${address}`)
      print.note('serving until Ctrl-C')
      await untilStopped(signal)
    })
  },
}
