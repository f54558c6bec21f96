import { Session } from 'node:inspector'

/**
 * For `node --import`: every thread collects its garbage this often, so that what its process holds on to can be seen. Asked of
 * the debugger's side, because V8's flag for it would make other code of the same program.
 */
const EVERY_MS = 2000

const session = new Session()
session.connect()
setInterval(() => session.post('HeapProfiler.collectGarbage'), EVERY_MS).unref()
