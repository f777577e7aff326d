import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpu } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { afterAll, describe, expect, it } from 'vitest'
import { config, entry, run, scored } from './adapter-runs.ts'
import { llama3 } from './weft.ts'

await cpu()

describe('a method of somebody else', () => {
  const scale = `
import { mul, ones } from '@weftjs/tensor'
export const gain = ({ start = 1 } = {}) => ({
  name: 'gain', options: { start },
  init: ({ out }) => ({ state: { g: mul(ones([out]), start) } }),
  around: (next, x, { g }) => mul(next(x), g),
})
`
  const homes: string[] = []
  afterAll(async () => {
    for (const folder of homes) await rm(folder, { recursive: true, force: true })
  })
  /** inside the workspace, so that its imports are found */
  const home = async (): Promise<string> => {
    const cache = fileURLToPath(new URL('../../../.cache', import.meta.url))
    await mkdir(cache, { recursive: true })
    const folder = join(cache, `third-party-${process.pid}-${Math.floor(performance.now() * 1000)}`)
    await mkdir(folder, { recursive: true })
    homes.push(folder)
    return folder
  }
  const install = async (
    folder: string,
    name: string,
    manifest: object,
    files: Record<string, string>,
  ): Promise<void> => {
    const source = await home()
    await writeFile(join(source, 'package.json'), JSON.stringify({ name, type: 'module', ...manifest }))
    for (const [file, text] of Object.entries(files)) await writeFile(join(source, file), text)
    const at = join(folder, 'node_modules', name)
    await mkdir(join(at, '..'), { recursive: true })
    await symlink(source, at)
  }
  const two = `${scale}\nexport const other = gain`

  it.each([
    ['weft-adapter-gain', 'weft-adapter-gain', { main: 'a.js' }, scale],
    ['@some/pkg/gain', '@some/pkg', { exports: { '.': { import: './a.js' } } }, two],
    ['@some/pkg/sub', '@some/pkg', { exports: { './*': './a.js' } }, scale],
  ])('%s is found beside the run file, trained, saved and read again', async (method, name, manifest, text) => {
    const folder = await entry([{ method, at: 'blocks.*.mlp.up', start: 1.5 }])
    await install(folder, name, manifest, { 'a.js': text })
    const { code, err } = await run(folder)
    expect(code, err).toBe(0)
    const out = join(folder, 'out')
    expect(await config(out)).toMatchObject({
      peft_type: 'WEFT_GAIN',
      weft_method: 'gain',
      weft_options: { start: 1.5 },
      weft_package: method,
    })
    const file = await openSafetensors(await fromFile(join(out, 'adapter_model.safetensors')))
    expect(file.names).toHaveLength(2)
    // its folder stands below that of the run file, so that the package is seen from there
    expect(await scored(llama3, out)).not.toBe(await scored(llama3))
    const odd = await run(folder, '--set', 'adapters.0.strat=2')
    expect(odd).toMatchObject({
      code: 1,
      err: expect.stringContaining(`'${method}' has no such option; did you mean start?`),
    })
  })

  it('a file beside the run file', async () => {
    const source = await home()
    await writeFile(join(source, 'mine.js'), two)
    const folder = await entry([{ method: './mine.js', at: 'blocks.*.mlp.up' }])
    await symlink(join(source, 'mine.js'), join(folder, 'mine.js'))
    const unclear = await run(folder)
    expect(unclear).toMatchObject({
      code: 1,
      err: expect.stringContaining("'./mine.js' exports gain, other; name one of them, as ./mine.js/gain"),
    })
    const { code, err } = await run(folder, '--set', 'adapters.0.method=./mine.js/gain')
    expect(code, err).toBe(0)
    expect((await config(join(folder, 'out')))['weft_package']).toBe('./../mine.js/gain')
    expect(await scored(llama3, join(folder, 'out'))).not.toBe(await scored(llama3))
  })

  it('says what is wrong with one', async () => {
    const folder = await entry([{ method: 'weft-adapter-bad', at: 'blocks.*.mlp.up' }])
    const none = await run(folder)
    expect(none).toMatchObject({
      code: 1,
      err: expect.stringContaining("adapters.0.method: there is no 'weft-adapter-bad'"),
    })
    await install(
      folder,
      'weft-adapter-bad',
      { exports: './a.js' },
      { 'a.js': 'export const bad = () => ({ name: 3 })' },
    )
    expect(await run(folder)).toMatchObject({
      code: 1,
      err: expect.stringContaining("'weft-adapter-bad' gives no adapter: it must have a name, init, and one of"),
    })
    expect(await run(folder, '--set', 'adapters.0.method=weft-adapter-bad/no')).toMatchObject({
      ...{ code: 1, err: expect.stringContaining("'weft-adapter-bad/no' exports bad, and no 'no'") },
    })
    await install(folder, 'weft-broken', { exports: './a.js' }, { 'a.js': 'throw new Error("broken inside")' })
    expect(await run(folder, '--set', 'adapters.0.method=weft-broken')).toMatchObject({
      ...{ code: 1, err: expect.stringMatching(/a\.js cannot be loaded: broken inside/) },
    })
    await install(folder, 'weft-empty', { exports: { './x': './x.js' } }, {})
    expect(await run(folder, '--set', 'adapters.0.method=weft-empty')).toMatchObject({
      ...{ code: 1, err: expect.stringContaining("exports nothing as '.'; look at its package.json") },
    })
    // an adapter whose package is gone
    expect(await run(folder, '--set', 'adapters.0.method=dorra')).toMatchObject({
      code: 1,
      err: expect.stringContaining('did you mean dora?'),
    })
  })
})
