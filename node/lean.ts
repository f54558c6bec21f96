import { registerHooks } from 'node:module'

/**
 * Helia's entries import a whole node of their own beside what we take from them (automatic TLS, UPnP, DHT, HTTP gateways, globbing:
 * 850 modules, a fifth of a start's work and 30 MB). A bundler drops what nobody uses; here Node's loader does: for Helia these modules
 * are empty. Import this before anything that imports Helia; later it is without effect.
 */
const unused: Record<string, string> = {
  '@helia/http': 'withHTTP',
  './utils/libp2p-defaults.js': 'libp2pDefaults',
  './utils/glob-source.js': 'globSource',
  './utils/url-source.js': 'urlSource',
}

registerHooks({
  resolve(specifier, context, next) {
    const name = unused[specifier]
    if (name === undefined || !/\/(@helia|helia)\//.test(context.parentURL ?? ''))
      return next(specifier, context)
    return { url: `data:text/javascript,export const ${name} = undefined`, shortCircuit: true }
  },
})
