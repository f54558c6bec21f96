import '../../node/lean.ts'

/** A host and nothing else, in the home and joined to the address it is given: what a peer takes before it holds a model. */
const [dir = '', address = ''] = process.argv.slice(2)
const [{ openHome }, { startHost }] = await Promise.all([
  import('../../node/home.ts'),
  import('../../node/host.ts'),
])
await import('../../protocol/index.ts')
const host = await startHost({
  home: await openHome(dir),
  join: [address],
  listen: ['/ip4/127.0.0.1/tcp/0'],
})
await host.online(30_000)
process.stdout.write('{"ev":"connected"}\n')
