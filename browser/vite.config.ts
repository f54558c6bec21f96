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

/** The page: hash routes and relative addresses, so that any static host or gateway serves it. */
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  plugins: [vue(), contentSecurityPolicy()],
  define: { __VUE_OPTIONS_API__: false, __VUE_PROD_DEVTOOLS__: false },
  build: {
    outDir: '../dist-page',
    emptyOutDir: true,
    target: 'es2024',
    cssTarget: 'chrome123',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: 'es' },
})
