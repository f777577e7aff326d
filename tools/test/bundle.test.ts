import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { bundle, FORBIDDEN, intruders } from '../size.ts'
import { root } from '../source.ts'

mkdirSync(join(root, '.cache'), { recursive: true })
const folder = mkdtempSync(join(root, '.cache/bundle-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** runs a bundle, in which backends and all else stand */
const run = (files: readonly (readonly [name: string, text: string])[]): string => {
  const at = mkdtempSync(join(folder, 'run-'))
  writeFileSync(join(at, 'package.json'), '{"type":"module"}')
  for (const [name, text] of files) writeFileSync(join(at, name), text)
  // tfjs asks for `util` where it finds Node
  writeFileSync(
    join(at, 'run.mjs'),
    `import { createRequire } from 'node:module'
globalThis.require = createRequire(import.meta.url)
await import('./${files[0]![0]}')`,
  )
  const { stdout, stderr } = spawnSync(process.execPath, [join(at, 'run.mjs')], { encoding: 'utf8' })
  return stdout.trim() || stderr.slice(-300)
}

describe('bundles', () => {
  it('hold gradients where something trains: what bundlers drop as free of side effects is not needed', async () => {
    const { files, inputs } = await bundle(
      'train',
      `import '@tensorflow/tfjs-backend-cpu'
       import { backprop } from '@weftjs/tensor/grad'
       import { matMul, square, sum, tensor } from '@weftjs/tensor/ops'
       const w = tensor([[1, 2], [3, 4]])
       const { grads } = backprop(({ w }) => sum(square(matMul(tensor([[1, 1]]), w))), { w })
       console.log(JSON.stringify(grads.w.arraySync()))`,
    )
    expect(inputs.some((path) => path.includes('/gradients/'))).toBe(true)
    expect(run(files)).toBe('[[8,12],[8,12]]')
  }, 120_000)

  it('hold none where nothing trains', async () => {
    const { files, inputs } = await bundle(
      'run',
      `import '@tensorflow/tfjs-backend-cpu'
       import { matMul, tensor } from '@weftjs/tensor'
       console.log(JSON.stringify(matMul(tensor([[1, 2]]), tensor([[3], [4]])).arraySync()))`,
    )
    expect(inputs.filter((path) => /\/gradients\/|\/checkpoint\/|\/linalg\//.test(path))).toEqual([])
    expect(run(files)).toBe('[[11]]')
  }, 120_000)

  it.each(Object.keys(FORBIDDEN))(
    '%s brings in nothing that it should not',
    async (name) => {
      const found = await bundle(name, `export * from '${name}'`)
      expect(found.inputs.length).toBeGreaterThan(0)
      expect(intruders(found)).toEqual([])
    },
    120_000,
  )

  it('LoRA alone stays small', async () => {
    const { gzip } = await bundle('lora', "import { lora } from '@weftjs/lora/lora'\nexport const adapter = lora()")
    expect(gzip).toBeLessThan(8 * 1024)
  }, 120_000)
})
