#!/usr/bin/env node
import { existsSync } from 'node:fs'

const built = new URL('../dist/main.js', import.meta.url)
if (!existsSync(built)) {
  process.stderr.write('weft: not built yet; run npm run build first\n')
  process.exit(1)
}
// a reader that has seen enough (weft list | head) is no error, and who does not read what is said still wants the result
process.stdout.on('error', (error) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})
process.stderr.on('error', (error) => {
  if (error.code !== 'EPIPE') throw error
})
const { main } = await import(built.href)
const code = await main(process.argv.slice(2))
// a GPU device or a native library would keep the process alive
process.stdout.write('', () => process.exit(code))
