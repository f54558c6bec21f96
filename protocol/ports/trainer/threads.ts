/**
 * What a host brings so that several cores train: a thread that runs `runHelper`. The engine says what crosses between them
 * (engine/team.ts).
 */
export type { HelperInit, HelperSaid } from '../../engine/channel.ts'
export { runHelper } from '../../engine/helper.ts'
export type { StartHelper } from '../../engine/leader.ts'
