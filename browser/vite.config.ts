import vue from '@vitejs/plugin-vue'
import { defineConfig, type Plugin } from 'vite'

/**
 * Scripts, styles and pictures come from where the page comes from, and nothing else does; connections go wherever a person
 * or a peer says. No text becomes a script: Vue's own policy writes its static templates, `mlstore` names our worker's file.
 */
const policy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self' ws: wss:",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types vue mlstore',
].join('; ')

/** Only in what is built: the development server writes its styles and its reloads inline. */
function contentSecurityPolicy(): Plugin {
  return {
    name: 'content-security-policy',
    apply: 'build',
    transformIndexHtml: () => [
      {
        tag: 'meta',
        attrs: { 'http-equiv': 'Content-Security-Policy', content: policy },
        injectTo: 'head-prepend',
      },
    ],
  }
}

/**
 * A layer's `reference` is there for tests alone (protocol/engine/layers/rule.ts): without it, what only it calls goes, too, and
 * the engine takes a sixth less of the page.
 */
export function withoutReferences(): Plugin {
  return {
    name: 'without-references',
    apply: 'build',
    enforce: 'post',
    transform: {
      filter: { id: /\/protocol\/engine\/layers\/[\w-]+\.ts$/ },
      handler(code) {
        const found = placesOf(this.parse(code))
        return { code: found.reduceRight(cutOut, code), map: null }
      },
    },
  }
}

type Place = readonly [start: number, end: number]

/** Where properties of that name stand in a syntax tree, in order. */
function placesOf(tree: unknown): Place[] {
  if (Array.isArray(tree)) return tree.flatMap(placesOf)
  if (typeof tree !== 'object' || tree === null) return []
  const { type, key, start, end } = tree as Record<string, unknown>
  const isIt = type === 'Property' && (key as { name?: string }).name === 'reference'
  return isIt ? [[Number(start), Number(end)]] : Object.values(tree).flatMap(placesOf)
}

function cutOut(code: string, [start, end]: Place): string {
  return `${code.slice(0, start)}reference: undefined${code.slice(end)}`
}

/** The page: hash routes and relative addresses, so that any static host or gateway serves it. */
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  plugins: [vue(), contentSecurityPolicy(), withoutReferences()],
  define: { __VUE_OPTIONS_API__: false, __VUE_PROD_DEVTOOLS__: false },
  build: {
    outDir: '../dist-page',
    emptyOutDir: true,
    target: 'es2024',
    cssTarget: 'chrome123',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es', plugins: () => [withoutReferences()] },
})
