/** Set up before each test file: a test fails when code of a package writes to the console, which is its user's. */
import { afterEach } from 'vitest'

const calls: string[] = []
for (const name of ['log', 'info', 'warn', 'error', 'debug', 'trace'] as const) {
  const original = console[name].bind(console)
  console[name] = (...args: unknown[]) => {
    const caller = new Error().stack?.split('\n')[2] ?? ''
    if (/[\\/]packages[\\/][^\\/]+[\\/]src[\\/]/.test(caller))
      calls.push(`console.${name}(${String(args[0])}) ${caller.trim()}`)
    original(...args)
  }
}
afterEach(() => {
  const found = calls.splice(0)
  if (found.length) throw new Error(`no console in packages: ${found.join('; ')}`)
})
