import type { FaultFacts } from '../../protocol/facts.ts'
import type { Skipped } from '../../protocol/ports/examples.ts'
import { duration, whole } from '../format.ts'

/** What a person reads of a fault: what came and what was expected; what to do next. No full stop at their ends. */
export interface Words {
  message: string
  hint: string
}

/** A fault's facts beside the message and hint that it came with. */
type Told<T extends string> = (T extends keyof FaultFacts ? FaultFacts[T] : unknown) & Words

/** As protocol/ says it, in English. */
function own<T extends string>({ message, hint }: Told<T>): Words {
  return { message, hint }
}

/** The same, with what to do at a page where protocol/ says what to do on a command line. */
function next<T extends string>(hint: string): (fault: Told<T>) => Words {
  return ({ message }) => ({ message, hint })
}

const keepRunning = 'ask whoever sent the link to keep a peer running, then try again'
const wholeLink = 'see what is listed under Models, or ask for the whole link again'
const askOwner = 'open another version, or tell its owner; nothing of it is kept or passed on'

/**
 * What goes wrong, in English, by the fault's type: a sentence of the facts that its parameter names, or protocol/facts.ts.
 * What protocol/ throws says an English message itself, so here it is said by that; in another language it is said of its facts.
 */
export const faults = {
  // this page
  'page-incomplete': ({ host }: { host: string }) => ({
    message: `only a part of this page came from ${host}`,
    hint: 'check the connection, then reload the page; what is kept in this browser stays',
  }),
  'insecure-origin': ({ origin }: { origin: string }) => ({
    message: `this page came from ${origin}, where browsers hide the cryptography that a peer needs`,
    hint: 'open it over https, or from localhost on the machine that serves it',
  }),
  'no-storage': ({ what, why }: { what: 'data' | 'runs'; why: string }) =>
    what === 'data'
      ? {
          message:
            'this browser keeps nothing for this page; your data stays on it until it closes',
          hint: 'allow it to keep site data, or use a window that is not private',
        }
      : {
          message: `this browser keeps nothing for this page (${why})`,
          hint: 'allow it to keep site data, or use a window that is not private; until then take results as a zip under Card',
        },
  'disk-full': ({ what }: { what: 'data' | 'runs' }) =>
    what === 'data'
      ? {
          message:
            'this browser has no room left for your data; it stays on this page until that closes',
          hint: 'free some space or forget an old run under Mine, then add more or tick it again',
        }
      : {
          message:
            'this browser has no room left to keep what is trained here; it is in the memory of this page alone',
          hint: 'free some space or forget an old run under Mine, or take the result as a zip under Card before this page closes',
        },
  'cannot-write': ({ why }: { why: string }) => ({
    message: `this browser keeps nothing of what is trained here (${why}); it is in the memory of this page alone`,
    hint: 'take the result as a zip under Card before this page closes; a window that is not private may keep it',
  }),
  'damaged-key': ({ name }: { name: string }) => ({
    message: `the ${name} key that this browser keeps cannot be opened: what is stored is damaged`,
    hint: 'import it from the file it was exported to; until then what is stored stays as it is',
  }),
  unexpected: ({ message }: Words) => ({
    message,
    hint: 'try again, or reload the page; what is kept in this browser stays',
  }),

  // addresses
  'wrong-address': own<'wrong-address'>,
  'insecure-address': ({ address }: { address: string }) => ({
    message: `this page came over https, where browsers open no socket without a certificate, as ${address} is`,
    hint: 'paste an address of the same peer with webrtc-direct or wss in it, or open this page over http',
  }),
  'wrong-peer': ({ address, peer }: { address: string; peer: string }) => ({
    message: `who answers at ${address} is another peer, ${peer}`,
    hint: 'ask for its address again: a peer that lost its key has a new name',
  }),
  'no-transport': ({ address }: { address: string }) => ({
    message: `no browser can dial ${address}`,
    hint: 'paste an address of the same peer with ws, wss or webrtc-direct in it',
  }),
  'refused-peer': ({ address }: { address: string }) => ({
    message: `this page does not dial ${address}: what came from that peer was wrong too often`,
    hint: 'paste the address of another peer, or reload this page to try that one again',
  }),
  'own-address': ({ address }: { address: string }) => ({
    message: `${address} is this page itself`,
    hint: 'paste the address of another peer',
  }),
  unreachable: ({ address, waitedMs }: { address: string; waitedMs: number }) => ({
    message: `nobody answered at ${address} within ${duration(waitedMs)}`,
    hint: 'check that the peer runs and that nothing between you and it keeps it away, then connect again',
  }),
  refused: ({ address }: { address: string }) => ({
    message: `no peer answers at ${address}`,
    hint: 'check that the peer runs and that the address is whole, then connect again',
  }),
  'port-in-use': own<'port-in-use'>,

  // data
  'several-files': ({ files, tables }: { files: number; tables: number }) => ({
    message: `${whole(files)} files came with ${whole(tables)} CSV among them, expected one CSV file by itself`,
    hint: 'drop that one file',
  }),
  'wrong-format': ({ came }: { came: string }) => ({
    message: `${came} came, and the model takes a CSV file with a header`,
    hint: 'drop a file whose name ends in .csv',
  }),
  'wrong-image': ({ file, why }: { file: string; why: string }) => ({
    message: `${file} ${why}`,
    hint: 'choose another picture',
  }),
  /** Of a table, or of `files` files, of which the first one could not be used because of `why`. */
  'no-examples': (
    facts: (FaultFacts['no-examples'] & Words) | { files: number; first: Skipped | undefined },
  ) => {
    if ('file' in facts) return own(facts)
    const { files, first } = facts
    const came = first ? `${first.item} ${first.reason}` : 'no files came'
    return {
      message: files > 1 ? `none of ${whole(files)} files can be used; ${came}` : came,
      hint: 'put each picture into a folder named for its label, and drop the folder around them',
    }
  },
  unreadable: ({ file, why }: { file: string; why: string }) => ({
    message: `${file} cannot be read: ${why}`,
    hint: 'check that it is still there and that this browser may read it, and choose it again',
  }),
  'missing-column': own<'missing-column'>,
  'wrong-columns': own<'wrong-columns'>,
  'wrong-row': own<'wrong-row'>,
  /** Of a file, or of a box in which somebody typed no number. */
  'wrong-cell': (facts: (FaultFacts['wrong-cell'] & Words) | { box: string }) =>
    'file' in facts
      ? own(facts)
      : {
          message: `${facts.box} needs a number`,
          hint: 'write digits, with a point before decimals, such as 3.14',
        },
  'unknown-label': own<'unknown-label'>,
  'no-sample': (_: object) => ({
    message: 'this version came without sample data',
    hint: 'draw a few, or drop your own',
  }),
  'no-data': next<'no-data'>('draw a few, or bring your own data'),

  // training and trying
  'already-training': (_: object) => ({
    message: 'another tab of this browser is training, expected one at a time',
    hint: 'stop it there, or go on there',
  }),
  'worker-not-ready': ({ waitedMs }: { waitedMs: number }) => ({
    message: `the training thread was not ready after ${whole(waitedMs / 60_000)} minutes`,
    hint: 'try less data, or a smaller model',
  }),
  'worker-died': ({ why }: { why: string | undefined }) => ({
    message: why
      ? `the training thread ended: ${why}`
      : 'the training thread could not be loaded, or this device has no memory left for it',
    hint: 'check the connection, close other tabs, then try again; the checkpoint is unharmed',
  }),
  'no-worker': (_: object) => ({
    message: 'this browser has no workers, and training needs one',
    hint: 'open this page in another browser, or a newer one; what you brought stays on this page meanwhile',
  }),
  'no-engine': ({ place, status }: { place: string; status: number | undefined }) => ({
    message: `the training engine could not be loaded from ${place}: ${status ? `the answer was ${status}` : 'nobody answered'}`,
    hint: 'check the connection, then start again; what you brought stays on this page',
  }),
  'too-slow': ({ minutes }: { minutes: number }) => ({
    message: `three training steps took more than ${whole(minutes)} minutes here`,
    hint: 'train a smaller model, or on a faster device',
  }),
  'no-params': (_: object) => ({
    message: 'the training thread is gone, and its params with it',
    hint: 'start again: the checkpoint goes on from its last minute',
  }),
  closed: (_: object) => ({
    message: 'the model was closed before it answered',
    hint: 'try again',
  }),
  'not-alike': ({ version, ours }: { version: string; ours: string }) => ({
    message: `version ${version} takes other data or has other labels than ${ours}`,
    hint: 'open it to try it by itself',
  }),
  'nothing-trained': (_: object) => ({
    message: 'what was trained here cannot be read any more',
    hint: 'train once more, or download it as published',
  }),
  diverged: own<'diverged'>,
  'gpu-lost': own<'gpu-lost'>,
  'no-backend': next<'no-backend'>(
    'reload this page, or open it in another browser; what is kept stays',
  ),
  'no-threads': own<'no-threads'>,
  'thread-lost': next<'thread-lost'>('start again: the checkpoint goes on from its last minute'),
  'out-of-memory': own<'out-of-memory'>,
  'too-much-memory': next<'too-much-memory'>(
    'close other tabs and programs, or train a smaller model',
  ),
  'too-much-work': own<'too-much-work'>,
  'too-many-params': own<'too-many-params'>,
  'wrong-checkpoint': next<'wrong-checkpoint'>(
    'forget it under Mine to start from the version as it was published',
  ),
  'stream-ended': own<'stream-ended'>,

  // finding models and peers
  'no-network': next<'no-network'>(
    'ask whoever sent the link to keep a peer running, or paste under Network the address of one that runs',
  ),
  'no-registry': next<'no-registry'>(
    'paste under Network the address of a bootstrap or peer that runs',
  ),
  'no-provider': next<'no-provider'>(keepRunning),
  'artifact-not-found': next<'artifact-not-found'>(keepRunning),
  'model-not-found': next<'model-not-found'>(wholeLink),
  'wrong-model-name': next<'wrong-model-name'>(wholeLink),
  'wrong-cid': next<'wrong-cid'>(wholeLink),
  'ambiguous-name': next<'ambiguous-name'>('open the one that you mean under Models'),
  'version-not-found': next<'version-not-found'>('see what is listed under Models'),
  'bad-listing': own<'bad-listing'>,
  'contested-genesis': own<'contested-genesis'>,
  'wrong-owner': own<'wrong-owner'>,
  'wrong-listing': own<'wrong-listing'>,

  // what a version holds: nothing that a person at a page can mend, but for its owner to hear of
  'unknown-manifest': next<'unknown-manifest'>('reload this page: a newer one may read it'),
  'extra-file': next<'extra-file'>(askOwner),
  'file-not-found': next<'file-not-found'>(askOwner),
  'missing-file': next<'missing-file'>(askOwner),
  'not-finite': next<'not-finite'>(askOwner),
  'not-of-its-genesis': own<'not-of-its-genesis'>,
  'too-large': next<'too-large'>(askOwner),
  'unknown-layer': next<'unknown-layer'>('reload this page: a newer one may train such layers'),
  'wrong-hash': next<'wrong-hash'>(askOwner),
  'wrong-labels': next<'wrong-labels'>(askOwner),
  'wrong-layout': next<'wrong-layout'>(askOwner),
  'wrong-manifest': next<'wrong-manifest'>(askOwner),
  'wrong-model': next<'wrong-model'>(askOwner),
  'wrong-output': next<'wrong-output'>(askOwner),
  'wrong-path': next<'wrong-path'>(askOwner),
  'wrong-size': next<'wrong-size'>(askOwner),
  'wrong-tensors': next<'wrong-tensors'>(askOwner),

  // keys
  'weak-passphrase': own<'weak-passphrase'>,
  'wrong-passphrase': own<'wrong-passphrase'>,
  'wrong-key-file': own<'wrong-key-file'>,
}
