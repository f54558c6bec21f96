import { registerHooks } from 'node:module'

/**
 * Loaded with --import, by NODE_OPTIONS, into a program that starts our bins: they run from their bundles (programs.ts), which takes
 * 0.6 times the CPU time. It imports nothing of ours, for each of those programs loads it.
 */
const bundles = { 'node/cli.ts': 'cli', 'bootstrap/main.ts': 'bootstrap' }

registerHooks({
  resolve(specifier, context, next) {
    const [, name] = Object.entries(bundles).find(([path]) => specifier.endsWith(`/${path}`)) ?? []
    const bundle = new URL(`../../dist-test/${name}.js`, import.meta.url)
    return next(name ? bundle.href : specifier, context)
  },
})
