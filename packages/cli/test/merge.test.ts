import { cp, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openCheckpoint, openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { contents, fixtures, llama3, temporary, weft } from './weft.ts'

const recipes = join(fixtures, 'merge')
const merge = (recipe: string, out: string, ...more: string[]) =>
  weft(['merge', recipe, out, '--backend', 'cpu', ...more])

/** largest difference of two checkpoints with the same names */
const apart = async (out: string, expected: string): Promise<number> => {
  const [a, b] = [await openCheckpoint(nodeFolder(out)), await openSafetensors(await fromFile(expected))]
  expect([...a.names].sort()).toEqual([...b.names].sort())
  let most = 0
  for (const name of a.names) {
    expect(a.entry(name).shape).toEqual(b.entry(name).shape)
    const [x, y] = [await a.floats(name), await b.floats(name)]
    for (let i = 0; i < x.length; i++) most = Math.max(most, Math.abs(x[i]! - y[i]!))
  }
  await a.close()
  await b.close()
  return most
}

describe('merge', () => {
  it.each(['linear', 'task-arithmetic', 'ties', 'slices'])(
    '%s: as mergekit does, into a folder that runs',
    async (name) => {
      const out = join(await temporary(), 'merged')
      const { code, out: said, err } = await merge(join(recipes, `${name}.yaml`), out, '--json')
      expect({ code, err }).toMatchObject({ code: 0 })
      expect(JSON.parse(said)).toMatchObject({ out, backend: 'cpu', files: ['model.safetensors', 'config.json'] })
      expect(await apart(out, join(recipes, `${name}.safetensors`))).toBeLessThan(1e-6)
      expect((await weft(['score', out, '--ids', '1,2,3', '--backend', 'cpu'])).code).toBe(0)
    },
  )

  it('takes the tokenizer, the dtype and the number of layers, and splits files', async () => {
    const folder = await temporary()
    for (const name of ['a', 'b']) await cp(join(recipes, name), join(folder, name), { recursive: true })
    await writeFile(join(folder, 'b/tokenizer_config.json'), '{"mine": true}')
    await writeFile(
      join(folder, 'recipe.yaml'),
      `merge_method: linear
slices:
  - sources: [{ model: a, layer_range: [0, 2] }, { model: b, layer_range: [0, 2] }]
  - sources: [{ model: a, layer_range: [1, 2] }, { model: b, layer_range: [0, 1] }]
parameters: { weight: 0.5 }
tokenizer_source: b
out_dtype: bfloat16
`,
    )
    const out = join(folder, 'out')
    const { code, out: said, err } = await merge(join(folder, 'recipe.yaml'), out, '--json', '--shard', '6000')
    expect({ code, err }).toMatchObject({ code: 0 })
    const { files } = JSON.parse(said) as { files: string[] }
    expect(files).toEqual(
      expect.arrayContaining(['model.safetensors.index.json', 'config.json', 'tokenizer_config.json']),
    )
    expect(files.filter((f) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(f)).length).toBeGreaterThan(1)
    const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config).toMatchObject({ num_hidden_layers: 3, dtype: 'bfloat16' })
    const checkpoint = await openCheckpoint(nodeFolder(out))
    expect(new Set(checkpoint.names.map((n) => checkpoint.entry(n).dtype))).toEqual(new Set(['BF16']))
    await checkpoint.close()
    expect((await weft(['score', out, '--ids', '1,2,3', '--backend', 'cpu'])).code).toBe(0)
  })
})

describe('what cannot be merged leaves no trace', () => {
  const refused = async (
    text: string,
    said: RegExp,
    prepare: (folder: string) => Promise<void> = async () => {},
  ): Promise<void> => {
    const folder = await temporary()
    for (const name of ['a', 'b', 'base']) await cp(join(recipes, name), join(folder, name), { recursive: true })
    await writeFile(join(folder, 'recipe.yaml'), text)
    await prepare(folder)
    const before = await contents(folder)
    for (const out of ['new/out', 'a']) {
      const { code, err } = await merge(join(folder, 'recipe.yaml'), join(folder, out))
      expect(code).toBe(1)
      if (out !== 'a') expect(err).toMatch(said)
      expect(await contents(folder)).toEqual(before)
    }
    expect(await readdir(folder)).not.toContain('new')
  }
  const models = 'models: [{ model: a, parameters: { weight: 0.5 } }, { model: b, parameters: { weight: 0.5 } }]\n'

  it('a method that is not there, a field of another kind, a parameter that is missing', async () => {
    await refused(
      `merge_method: soup\n${models}`,
      /recipe\.yaml: merge_method: "soup" is not supported; there are linear/,
    )
    await refused(
      `merge_method: linear\n${models.replace('0.5', 'half')}`,
      /recipe\.yaml: models\.0\.parameters\.weight: must be/,
    )
    await refused(
      'merge_method: linear\nmodels: [{ model: a }, { model: b }]\n',
      /models\.0\.parameters\.weight: is needed/,
    )
    await refused('merge_method: [', /recipe\.yaml: not valid YAML/)
    await refused(`merge_method: ties\n${models}`, /recipe\.yaml: base_model/)
  })

  it('a model that is not there, damaged, quantized, of another shape, or the folder to write', async () => {
    const recipe = `merge_method: linear\n${models}`
    await refused(recipe.replace('model: b', 'model: nowhere/at/all'), /nowhere\/at\/all: no such folder/)
    await refused(recipe, /a\/model\.safetensors: /, (folder) => truncate(join(folder, 'a/model.safetensors'), 5000))
    await refused(recipe, /holds quantized weights/, async (folder) => {
      await cp(join(fixtures, 'models/llama3-nf4'), join(folder, 'b'), { recursive: true })
    })
    await refused(recipe, /a: is the folder of the model itself|differs|is in/, async (folder) => {
      await cp(llama3, join(folder, 'b'), { recursive: true })
    })
    // found only when the tensor's turn comes: what is there of the result must go again
    await refused(recipe, /config\.json/, (folder) => writeFile(join(folder, 'a/config.json'), '{'))
  })

  it('a result that exists is replaced, and other files in its folder stay', async () => {
    const out = join(await temporary(), 'out')
    await mkdir(out)
    await writeFile(join(out, 'notes.txt'), 'mine')
    for (const name of ['ties', 'linear']) expect((await merge(join(recipes, `${name}.yaml`), out)).code).toBe(0)
    expect(await apart(out, join(recipes, 'linear.safetensors'))).toBeLessThan(1e-6)
    expect(await readFile(join(out, 'notes.txt'), 'utf8')).toBe('mine')
    expect((await readdir(out)).sort()).toEqual(['config.json', 'model.safetensors', 'notes.txt'])
  })
})
