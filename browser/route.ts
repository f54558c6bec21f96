/**
 * Where a person is, in the address after `#`: any static host serves it, and a link says everything.
 *
 *   #/?q=digits&task=image-classification&sort=fresh     #/m/<CID or name>/<tab>?via=<multiaddr>     #/mine     #/network     #/settings
 */
export type Route =
  | { type: 'models'; filters: Filters }
  | { type: 'model'; reference: string; tab: Tab; via: string[] }
  | { type: 'mine' }
  | { type: 'network' }
  | { type: 'settings' }
  | { type: 'unknown'; path: string }

/** The first one needs no name in the address. */
export const tabs = ['train', 'card', 'try', 'versions', 'swarm'] as const
export type Tab = (typeof tabs)[number]

export const sorts = ['peers', 'fresh', 'name'] as const
export interface Filters {
  query: string
  /** '' is all. */
  task: string
  sort: (typeof sorts)[number]
}

/** A share link names this many peers. */
export const VIA_LIMIT = 3

export function readRoute(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split(/\?(.*)/s)
  const [first = '', ...rest] = path.split('/').filter(Boolean)
  const query = new URLSearchParams(search)
  if (first === '') return { type: 'models', filters: readFilters(query) }
  if (first === 'mine' || first === 'network' || first === 'settings') return { type: first }
  if (first === 'm' && rest[0] && rest.length <= 2) {
    const tab = tabs.find((name) => name === rest[1])
    if (tab || rest.length === 1) {
      const via = query.getAll('via').slice(0, VIA_LIMIT)
      return { type: 'model', reference: decoded(rest[0]), tab: tab ?? 'train', via }
    }
  }
  return { type: 'unknown', path }
}

export function writeRoute(route: Route): string {
  if (route.type === 'models') return `#/${writeFilters(route.filters)}`
  if (route.type === 'unknown') return `#${route.path}`
  if (route.type !== 'model') return `#/${route.type}`
  const tab = route.tab === 'train' ? '' : `/${route.tab}`
  const via = route.via.map((address) => `via=${encodeURIComponent(address)}`).join('&')
  return `#/m/${encodeURIComponent(route.reference)}${tab}${via && `?${via}`}`
}

export const noFilters: Filters = { query: '', task: '', sort: 'peers' }

function readFilters(query: URLSearchParams): Filters {
  return {
    query: query.get('q') ?? '',
    task: query.get('task') ?? '',
    sort: sorts.find((sort) => sort === query.get('sort')) ?? 'peers',
  }
}

function writeFilters({ query, task, sort }: Filters): string {
  const search = new URLSearchParams()
  if (query) search.set('q', query)
  if (task) search.set('task', task)
  if (sort !== 'peers') search.set('sort', sort)
  const text = search.toString()
  return text && `?${text}`
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
