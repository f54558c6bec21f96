import { createApp } from 'vue'
import { loadSettings } from './keep.ts'
import { createPage, pageKey } from './page.ts'
import './style.css'
import App from './App.vue'

/** What is seen comes first; the network, which is ten times as large, after the first paint. */
const page = createPage(
  painted().then(async () => (await import('./open.ts')).createServices()),
  location.hash,
  loadSettings(),
)
addEventListener('hashchange', () => page.dispatch({ type: 'navigated', hash: location.hash }))
/** Drawings that are kept nowhere are asked about once before they go. */
addEventListener('beforeunload', (event) => {
  const works = Object.values(page.state.value.works)
  if (works.some(({ drawings, keep }) => drawings.length > 0 && !keep)) event.preventDefault()
})
createApp(App).provide(pageKey, page).mount('#app')

/** A hidden tab paints nothing, and starts all the same. */
function painted(): Promise<void> {
  return new Promise((resolve) => {
    if (document.hidden) resolve()
    else requestAnimationFrame(() => setTimeout(resolve))
  })
}
