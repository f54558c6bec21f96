import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { toString } from 'uint8arrays'
import { codecs } from './protocol/codec/table.ts'
import { encodeFrameHeader, encodeMessage, signCard } from './protocol/message.ts'
import { digestOf, tensorList } from './protocol/ports/network.ts'
import { aggregators } from './protocol/aggregate/table.ts'
const hex = (b) => toString(b, 'hex')
const tensors = [
  { name: 'dense/kernel', shape: [2, 3], role: 'trainable' },
  { name: 'dense/bias', shape: [3], role: 'trainable' },
  { name: 'norm/moving_variance', shape: [1], role: 'variance' },
]
console.log(tensorList(tensors))
const td = await digestOf(new TextEncoder().encode(tensorList(tensors)))
console.log('tensors', td)
const a = Float32Array.of(0.5, -1, 0.25, 1.984375, 0, -0.75, 0.1, 0.2, -0.3, 0.5)
const b = Float32Array.of(1, 1, -0.5, 0.75, 0.125, -1.25, 0, 0, 0, 0.25)
const ea = codecs.int8.encode(a, tensors), eb = codecs.int8.encode(b, tensors)
const fa = codecs.float32.encode(a, tensors)
console.log('A', hex(ea)); console.log('B', hex(eb)); console.log('Af', hex(fa))
const da = await digestOf(ea), db = await digestOf(eb)
console.log(da, db)
const dec = (e) => { const o = []; let s=0,i=0; for (const n of [6,3,1]) { const bl = new Float32Array(n); codecs.int8.decodeBlockInto(bl, e, s, n, i); o.push(...bl); s+=n; i++ } return o }
console.log(dec(ea), dec(eb))
for (const [p, s, r] of [[a, ea, eb], [b, eb, ea]]) {
  const c = p.slice(); const st = aggregators.swap.init(c, { tensors, momentum: 0 })
  console.log(aggregators.swap.settle(st, { codec: codecs.int8, bytes: s }, [{ codec: codecs.int8, bytes: r }]))
  console.log([...c], hex(codecs.float32.encode(c, tensors)))
}
const nonce = '000102030405060708090a0b0c0d0e0f'
const genesis = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi'
const ms = [
  { type: 'offer', nonce, genesis, tensors: td, codec: 'int8', steps: 120 },
  { type: 'accept', nonce, steps: 40 },
  { type: 'params', nonce, bytes: 22, digest: da },
  { type: 'ready', nonce, digest: da },
  { type: 'commit', nonce, digest: db },
  { type: 'busy', nonce, reason: 'budget' },
  { type: 'ask', nonce, genesis },
  { type: 'told', nonce, outcome: 'committed' },
  { type: 'pull', nonce, genesis, tensors: td, what: 'state', codec: 'float32' },
  { type: 'grant', nonce, steps: 120 },
]
for (const m of ms) { const body = encodeMessage(m); console.log(m.type, hex(encodeFrameHeader('message', body.length)) + hex(body)) }
const key = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))
console.log(key.publicKey.toString())
const card = { peer: key.publicKey.toString(), genesis, version: genesis, phase: 'training', round: 3, steps: 120, codecs: ['int8'], addresses: ['/ip4/192.0.2.1/tcp/4001'], load: 0.25, sequence: 7, expiresAt: 1893456600000 }
console.log('card', hex(await signCard(card, key)))
import * as dagCbor from '@ipld/dag-cbor'
console.log('payload', hex(dagCbor.encode(card)))
const { encode } = await import('./protocol/ports/registry/wire.ts')
console.log('list', hex(encode({ type: 'list', query: 'digits', offset: 0, limit: 50 })))
console.log('credit', hex(encodeFrameHeader('credit', 4)), hex(encodeFrameHeader('data', 22)))
