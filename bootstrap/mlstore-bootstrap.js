#!/usr/bin/env node
import { start } from '../protocol/ports/runtime.js'

await start(new URL('./main.ts', import.meta.url), new URL('../dist/bootstrap.js', import.meta.url))
