import { Fault } from '../protocol/errors.ts'
import type { Services } from './services.ts'

/** The network of this page. Throws Fault until there is one. */
export async function createServices(): Promise<Services> {
  throw new Fault({
    kind: 'network',
    type: 'no-network',
    message: 'this page was built without a network',
    hint: 'use mlstore on the command line',
  })
}
