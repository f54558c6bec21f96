import { fileURLToPath } from 'node:url'
import { defineConfig, mergeConfig } from 'vite'
import page from '../../browser/vite.config.ts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** The page with pretended services, to look at every view without a network. Never shipped. */
export default mergeConfig(
  page,
  defineConfig({
    build: { outDir: here('../../dist-page-fake') },
    plugins: [
      {
        name: 'pretended-services',
        enforce: 'pre',
        resolveId(id, importer) {
          if (id.endsWith('./open.ts')) return here('./services.ts')
          if (id.endsWith('/text.ts') && importer !== here('./pseudo.ts'))
            return here('./pseudo.ts')
        },
      },
    ],
  }),
)
