/** A worker_thread that computes a part of each batch: its workerData is what it starts from (threads.ts starts it). */
import { parentPort, workerData } from 'node:worker_threads'
import { invariant } from '../protocol/errors.ts'
import { runHelper } from '../protocol/ports/trainer/threads.ts'

const port = parentPort
invariant(port, 'this file runs in a worker_thread')

await runHelper(workerData, (said) => port.postMessage(said))
