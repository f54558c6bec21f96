import { fileURLToPath } from 'node:url'
import { defineConfig, mergeConfig } from 'vite'
import page from '../../browser/vite.config.ts'

/** The page with pretended services, to look at every view without a network. Never shipped. */
export default mergeConfig(
  page,
  defineConfig({
    build: { outDir: fileURLToPath(new URL('../../dist-page-fake', import.meta.url)) },
    plugins: [
      {
        name: 'pretended-services',
        enforce: 'pre',
        resolveId: (id) =>
          id.endsWith('./open.ts')
            ? fileURLToPath(new URL('./services.ts', import.meta.url))
            : undefined,
      },
    ],
  }),
)
