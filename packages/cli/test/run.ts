/** the command from its sources, for tests that need a process of their own */
import { main } from '../src/main.ts'

process.exit(await main(process.argv.slice(2)))
