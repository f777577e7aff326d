import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { weft } from './weft.ts'

const bin = fileURLToPath(new URL('../bin/weft.js', import.meta.url))
const built = existsSync(new URL('../dist/main.js', import.meta.url))
const call = (...args: string[]) => spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8' })

// npm test builds before it tests
describe.skipIf(!built)('the built command', () => {
  it('knows its version, and passes exit codes on', async () => {
    expect(call('--version')).toMatchObject({ status: 0, stdout: (await weft(['--version'])).out, stderr: '' })
    expect(call('dance')).toMatchObject({ status: 2, stdout: '' })
    expect(call('inspect', 'nowhere')).toMatchObject({ status: 1, stdout: '' })
  })

  it.skipIf(process.platform === 'win32')('ends quietly when nobody reads on', () => {
    const { status, stderr, stdout } = spawnSync(
      'sh',
      ['-c', `"${process.execPath}" "${bin}" list --json | head -c 10`],
      {
        encoding: 'utf8',
      },
    )
    expect({ status, stderr, stdout }).toEqual({ status: 0, stderr: '', stdout: expect.stringMatching(/^\[\{"name"/) })
  })
})
