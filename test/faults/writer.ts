import { checkpointFile } from '../../node/checkpoint.ts'
import { encodeCheckpoint } from '../../protocol/ports/trainer/checkpoint.ts'
import { checkpointOf } from './rounds.ts'

/** Writes the checkpoint of one round. */
const [path = '', rounds] = process.argv.slice(2)
await checkpointFile(path).write(await encodeCheckpoint(checkpointOf(Number(rounds))))
