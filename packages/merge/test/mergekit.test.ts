import { readFile } from 'node:fs/promises'
import { cpu, memory, wasm } from '@weftjs/tensor'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { type Checkpoint, openCheckpoint, openSafetensors } from '@weftjs/tensor/checkpoint/index'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { mergeCheckpoints } from '../src/index.ts'
import { values } from './values.ts'

const folder = new URL('../../testkit/fixtures/merge/', import.meta.url).pathname
const open = (model: string): Promise<Checkpoint> => openCheckpoint(nodeFolder(`${folder}${model}`))

const RECIPES = [
  'linear',
  'linear-raw',
  'linear-three',
  'task-arithmetic',
  'task-arithmetic-lambda',
  'ties',
  'ties-raw',
  'ties-three',
  'ties-gradient',
  'slices',
]

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('on %s, as mergekit', (_, start) => {
  beforeAll(async () => {
    await start()
  })
  it.each(RECIPES)('%s', async (name) => {
    const recipe = parse(await readFile(`${folder}${name}.yaml`, 'utf8'))
    const want = await openSafetensors(await fromFile(`${folder}${name}.safetensors`))
    const seen: string[] = []
    const { numTensors } = memory()
    const got = await mergeCheckpoints(
      recipe,
      open,
      async (plan) => {
        expect(plan.config).toBe(recipe.base_model ?? 'a')
        expect(plan.layers).toBe(name === 'slices' ? 2 : undefined)
        return values(plan.tensors)
      },
      { onProgress: ({ name, tensors, of }) => seen.push(`${name} ${tensors}/${of}`) },
    )
    expect(memory().numTensors).toBe(numTensors)
    expect([...got.keys()].sort()).toEqual([...want.names].sort())
    expect(seen).toHaveLength(want.names.length)
    expect(seen.at(-1)).toMatch(new RegExp(` ${want.names.length}/${want.names.length}$`))
    for (const tensor of want.names) {
      const expected = await want.floats(tensor)
      const found = got.get(tensor)!
      let worst = 0
      expected.forEach((v, i) => {
        worst = Math.max(worst, Math.abs(v - found[i]!))
      })
      expect(worst, tensor).toBeLessThan(1e-6)
    }
    await want.close()
  })
})
