#!/usr/bin/env node
import { main } from '../dist/main.js'

process.exitCode = await main(process.argv.slice(2))
// a GPU device or a native library would keep the process alive
process.exit()
