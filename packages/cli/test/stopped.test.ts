import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fileSink } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { startBackend } from '../src/backends.ts'
import { expectOut } from '../src/out.ts'
import { project, temporary, weft } from './weft.ts'

const at = (path: string): string => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)))
/** opens a file as a command does, says so, and writes on for ever */
const endless = (out: string): string => `
  const { startBackend } = await import(${at('../src/backends.ts')})
  const { expectOut } = await import(${at('../src/out.ts')})
  const { fileSink } = await import(${at('../../tensor/src/checkpoint/file.ts')})
  const { mkdir } = await import('node:fs/promises')
  const out = ${JSON.stringify(out)}
  await expectOut(out)
  await startBackend('cpu')
  await mkdir(out, { recursive: true })
  const sink = await fileSink(out + '/model.safetensors')
  await sink.write(new Uint8Array(1000))
  console.log('writing')
  setInterval(() => {}, 1000)`

describe('Ctrl-C while a file is being written', () => {
  // there the system has no signals
  it.skipIf(process.platform === 'win32')('ends with 130 and leaves neither a part of it nor its folder', async () => {
    const folder = await temporary()
    const args = ['--import', 'tsx', '--conditions=@weftjs/source', '--input-type=module', '-e']
    const child = spawn(process.execPath, [...args, endless(join(folder, 'a/b'))])
    let parts: string[] = []
    child.stdout.on('data', async () => {
      parts = await readdir(join(folder, 'a/b'))
      child.kill('SIGINT')
    })
    const code = await new Promise((resolve) => child.once('close', resolve))
    expect({ code, parts: parts.length }).toEqual({ code: 130, parts: 1 })
    expect(await readdir(folder)).toEqual([])
  })

  it('is as it was before and after', async () => {
    const folder = await temporary()
    const listeners = (): number => process.listenerCount('SIGINT')
    await expectOut(folder)
    await startBackend('cpu')
    const before = listeners()
    const [a, b] = [await fileSink(join(folder, 'a')), await fileSink(join(folder, 'b'))]
    expect(listeners()).toBe(before + 1)
    await a.close!()
    expect(listeners()).toBe(before + 1)
    await b.abort!()
    expect(listeners()).toBe(before)
    expect(await readdir(folder)).toEqual(['a'])
  })
})

it('a run that was stopped says the command that goes on with it, as a shell takes it', async () => {
  const folder = await project({ train: { steps: 3, batch: 2, length: 12 } })
  const out = join(folder, "the cat's")
  await mkdir(out)
  const args = ['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', '--out', out, '--set', 'train.steps=9']
  const { code, err } = await weft(args, (text) => void (/ 2\/9/.test(text) && process.emit('SIGINT')))
  expect(code).toBe(130)
  const said = /go on with: weft (.*)/.exec(err)![1]
  expect(said).toBe(
    `finetune ${join(folder, 'run.yaml')} --out '${join(folder, "the cat'\\''s")}' --set train.steps=9 --backend cpu --resume`,
  )
  expect(existsSync(join(out, 'checkpoint.safetensors'))).toBe(true)
})
