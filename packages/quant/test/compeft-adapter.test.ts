import { cpu, rng } from '@weftjs/tensor'
import { blobFolder, type Folder, toSafetensors } from '@weftjs/tensor/checkpoint'
import { beforeAll, expect, it } from 'vitest'
import { compeftAdapter, compeftFolder } from '../src/compeft/adapter.ts'
import { toCompeft } from '../src/compeft/file.ts'

beforeAll(async () => void (await cpu()))
const NAME = 'base_model.model.q.lora_A.weight'
const folderOf = (config: unknown, name = NAME): Folder => {
  const values = rng(1).normal([20]).dataSync() as Float32Array
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  return blobFolder(
    new Map([
      ['adapter_config.json', new Blob([text])],
      [
        'adapter_model.safetensors',
        new Blob([toSafetensors({ [name]: { dtype: 'F32', shape: [4, 5], data } }) as BlobPart]),
      ],
    ]),
    'voice',
  )
}

it('is refused where a part of the base stands in A and B, and where tensors are of another kind', async () => {
  const lora = { peft_type: 'LORA', r: 4 }
  await expect(compeftAdapter(folderOf({ ...lora, init_lora_weights: 'pissa_niter_4' }))).rejects.toThrow(
    'voice/adapter_config.json: init_lora_weights is "pissa_niter_4", so that A and B hold a part of the base',
  )
  await expect(compeftAdapter(folderOf(lora, 'base_model.model.q.bias'))).rejects.toThrow('"base_model.model.q.bias"')
  await expect(compeftAdapter(folderOf({ peft_type: 'constructor' }))).rejects.toThrow('peft_type is "constructor"')
  await expect(compeftAdapter(folderOf('{'))).rejects.toThrow('not valid JSON')
  expect((await compeftAdapter(folderOf({ ...lora, init_lora_weights: 'eva' }))).length).toBeLessThan(120)
})

it('a file without a config, or with one that its tensors do not fit, is no adapter', async () => {
  const params = { [NAME]: rng(2).normal([4, 5]) }
  expect(() => compeftFolder(new Uint8Array(9), { file: 'a.cpft' })).toThrow('a.cpft: ')
  const bare = await toCompeft(params)
  expect(() => compeftFolder(bare, { file: 'a.cpft' })).toThrow('a.cpft: holds tensors and no config of an adapter')
  const odd = await toCompeft(params, { about: JSON.stringify({ peft_type: 'IA3' }) })
  expect(() => compeftFolder(odd)).toThrow('is no part of IA3; make the file again')
  for (const about of ['null', '[]', '7', '"x"'])
    await expect(toCompeft(params, { about }).then((file) => compeftFolder(file))).rejects.toThrow('peft_type is')
})
