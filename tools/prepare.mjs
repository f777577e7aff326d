/** After `npm ci`: builds the packages, so that `npx weft` works. A build that fails is announced and leaves the install standing. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const turbo = join(root, 'node_modules', 'turbo', 'bin', 'turbo')
// an install for production has no build tools, and WEFT_NO_BUILD=1 wants none
if (existsSync(turbo) && !process.env.WEFT_NO_BUILD) {
  const start = performance.now()
  const { status } = spawnSync(
    process.execPath,
    [turbo, 'run', 'build', '--filter=@weftjs/*', '--output-logs=errors-only', '--continue'],
    {
      cwd: root,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', FORCE_COLOR: '0' },
    },
  )
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  console.log(
    status === 0
      ? `weft: built in ${seconds} s`
      : 'weft: the packages were not built, so npx weft will not run; npm run build says why',
  )
}
