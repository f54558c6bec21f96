/**
 * The facts of faults, by type: what another language's sentence is made of. A page says a fault in its own words
 * (browser/text/faults.ts), so whoever throws one of these gives them; `mlstore` shows `message` and `hint`.
 * A type that is not here has no facts, or is met on the command line alone.
 */
export interface FaultFacts {
  // training
  /** A param that left its range, or the loss of a step. */
  diverged: { index: number; value: number } | { step: number; loss: number }
  'gpu-lost': { backend: string }
  'no-backend': { backend: string }
  'no-data': { examples: number }
  'out-of-memory': { bytes?: number }
  /** `said`: its own words, where it had any. */
  'thread-lost': { waitedMs?: number; said?: string }
  'too-many-params': { params: number; limit: number; layer: string }
  /** Multiply-adds of a step, or kernel calls of a plan where there are none of those. */
  'too-much-work': { layer: string; limit: number; multiplyAdds?: number }
  'too-much-memory': { memoryBytes: number; limitBytes: number; layer: string; threads: number }
  'wrong-checkpoint': { came: string; expected: string }

  // data
  'missing-column': { file: string; column: string; header: readonly string[] }
  /** `rows`: a header came, and no rows; otherwise nothing. */
  'no-examples': { file: string; hasHeader: boolean }
  'unknown-label': { where: string; label: string; labels: readonly string[] }
  'wrong-cell': {
    file: string
    row: number
    column: string
    cell: string
    input: 'image' | 'table'
  }
  'wrong-columns': { file: string; columns: number; expected: number }
  'wrong-row': { file: string; row: number; cells: number; expected: number }

  // finding models and peers
  'ambiguous-name': { name: string; count: number }
  'artifact-not-found': { cid: string; waitedMs: number; peers: number }
  'bad-listing': { name: string; registry: string }
  'contested-genesis': { genesis: string; owners: readonly string[] }
  'model-not-found': { name: string; registries: number }
  'no-network': { tried: readonly string[]; waitedMs: number }
  'no-provider': { cid: string; addresses: number }
  'no-registry': { registries: number }
  'version-not-found': { name: string; version: string; latest: string }
  'wrong-address': { address: string }
  'wrong-cid': { cid: string }
  'wrong-model-name': { name: string }
  'wrong-owner': { name: string }

  // what a version holds: all but the file and the place in it is for whoever made it
  'extra-file': { path: string }
  'file-not-found': { path: string }
  'missing-file': { path: string }
  'not-finite': object
  'not-of-its-genesis': { came: string; expected: string }
  'too-large': { bytes: number; limitBytes: number }
  'unknown-layer': { layer: string }
  'unknown-manifest': { major: number }
  'wrong-hash': { path: string }
  'wrong-labels': { labels: number; expected: number }
  'wrong-layout': { cid: string }
  'wrong-manifest': { field?: string }
  'wrong-model': { field: string }
  'wrong-output': { layer: string; activation: string }
  'wrong-path': { path: string }
  /** `path`: a block's CID where it is none of a file, `model.json` for all that holds its params. */
  'wrong-size': { path: string; bytes: number; expected: number }
  'wrong-tensors': { came: string; expected: string }

  // keys
  'weak-passphrase': { length: number; least: number }
  'wrong-key-file': { why: string }
  'wrong-passphrase': { owner: string }
}
