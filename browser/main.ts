import { createApp } from 'vue'
import type { Fault } from '../protocol/errors.ts'
import { loadSettings } from './keep.ts'
import { createPage, pageKey } from './page.ts'
import type { Services } from './services.ts'
import { wouldLose } from './state.ts'
import { pageFault } from './words.ts'
import './style.css'
import App from './App.vue'
import { text } from './text.ts'

const UNPAINTED_MS = 1_000

/** What is seen comes first; the network, which is ten times as large, after the first paint. */
const page = createPage(painted().then(open), location.hash, loadSettings())
addEventListener('hashchange', () => page.dispatch({ type: 'navigated', hash: location.hash }))
/** What is kept nowhere is asked about once before it goes. */
addEventListener('beforeunload', (event) => {
  if (wouldLose(page.state.value)) event.preventDefault()
})
document.documentElement.lang = text.lang
createApp(App).provide(pageKey, page).mount('#app')

async function open(): Promise<Services> {
  const { createServices } = await import('./open.ts').catch((error: unknown) => {
    throw incomplete(error)
  })
  return createServices()
}

function incomplete(cause: unknown): Fault {
  return pageFault('network', 'page-incomplete', { host: location.host }, cause)
}

/** A hidden tab paints nothing, nor may one that is hidden soon: both start all the same. */
function painted(): Promise<void> {
  return new Promise((resolve) => {
    if (document.hidden) return resolve()
    setTimeout(resolve, UNPAINTED_MS)
    new PerformanceObserver((list) => {
      if (list.getEntriesByName('first-contentful-paint').length > 0) resolve()
    }).observe({ type: 'paint', buffered: true })
  })
}
