#!/usr/bin/env node
import { start } from '../protocol/ports/runtime.js'

await start(new URL('./cli.ts', import.meta.url), new URL('../dist/cli.js', import.meta.url))
