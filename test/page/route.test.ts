import { expect, test } from 'vitest'
import { type Route, readRoute, writeRoute } from '../../browser/route.ts'

const cid = 'bafybeigenesis'
const via = ['/ip4/127.0.0.1/tcp/4001/ws/p2p/12D3', '/dns4/example.org/tcp/443/wss/p2p/12D4']

test('every route comes back from its address', () => {
  const routes: Route[] = [
    { type: 'models', filters: { query: 'two words & more', task: 'x', sort: 'fresh' } },
    { type: 'models', filters: { query: '', task: '', sort: 'peers' } },
    { type: 'model', reference: cid, tab: 'train', via: [] },
    { type: 'model', reference: 'digits', tab: 'swarm', via },
    { type: 'mine' },
    { type: 'network' },
    { type: 'settings' },
  ]
  for (const route of routes) expect(readRoute(writeRoute(route))).toEqual(route)
})

test('an empty address is the list of models', () => {
  for (const hash of ['', '#', '#/']) expect(readRoute(hash).type).toBe('models')
})

test('a link names three peers at most', () => {
  const link = `#/m/${cid}?${['a', 'b', 'c', 'd'].map((name) => `via=/dns4/${name}`).join('&')}`
  expect(readRoute(link)).toMatchObject({ via: ['/dns4/a', '/dns4/b', '/dns4/c'] })
})

test('what nobody knows is unknown, not a crash', () => {
  for (const hash of ['#/nowhere', '#/m', '#/m/', `#/m/${cid}/nowhere`, '#/m/a/b/c']) {
    expect(readRoute(hash).type).toBe('unknown')
  }
  expect(readRoute('#/m/%E0%A4%A')).toMatchObject({ type: 'model', reference: '%E0%A4%A' })
})
