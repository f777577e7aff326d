import { attach, sitesOf } from '@weftjs/model'
import { cpu, rng } from '@weftjs/tensor'
import { openCheckpoint } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import { readPeftConfig } from '../src/peft/config.ts'
import { fromPeft } from '../src/peft/load.ts'
import { torchRandom } from '../src/shared/torch-random.ts'
import { distance, intsOf, model, open, peftFolder, safetensors, saved } from './fixture.ts'

await cpu()

describe('numbers that PyTorch 2 gave on a CPU', () => {
  it('torch.randperm(13824), seed 777', () => {
    expect([...torchRandom(777).permutation(13824, 6)]).toEqual([13415, 6603, 7229, 164, 8599, 11770])
  })
  it('torch.empty(3, 5).uniform_(-0.3, 0.3), seed 0', () => {
    const want = [
      -0.002246046205982566, 0.16093307733535767, -0.24691355228424072, -0.22078171372413635, -0.115546315908432,
      0.08044721186161041,
    ]
    expect([...torchRandom(0).uniform(6, -0.3, 0.3)]).toEqual(want)
  })
  it('torch.rand(4), seed 5', () => {
    const want = [0.8302518725395203, 0.12611091136932373, 0.9074696898460388, 0.8199270367622375]
    expect([...torchRandom(5).uniform(4, 0, 1)]).toEqual(want)
  })
  it('the same in bfloat16, seed 0, within ±1/√5', () => {
    const want = [0.1533203125, -0.283203125, -0.038330078125, 0.2236328125, -0.212890625, 0.4296875, 0.234375]
    expect([...torchRandom(0).uniform16(7, -1 / Math.sqrt(5), 1 / Math.sqrt(5))]).toEqual(want)
  })
  it('a permutation of all is one', () => {
    expect([...torchRandom(1).permutation(50, 50)].sort((a, b) => a - b)).toEqual([...Array(50).keys()])
    expect(torchRandom(1).permutation(3, 9)).toHaveLength(3)
  })
})

describe.each(['vera', 'vera-gpt2', 'randlora', 'randlora-sparse', 'randlora-gpt2'])(
  'the fixed bases of %s',
  (name) => {
    it("are those of PEFT's file before it is read", async () => {
      const folder = peftFolder(name)
      const config = await readPeftConfig(folder)
      const network = await model(config.base_model_name_or_path!)
      const start = fromPeft(config, network, sitesOf(network))
      const { constants } = attach(start.network, start.attachments, rng(0), start.options)
      const file = await openCheckpoint(folder, { stem: 'adapter_model' })
      const method = name.split('-')[0]
      for (const key of ['a', 'b']) {
        const want = await file.floats(`base_model.${method}_${key.toUpperCase()}`)
        const found = await constants[`${method}.shared.${key}`]!.data()
        // a standard deviation is summed in another order
        expect(distance(found, want)).toBeLessThan(
          name === 'randlora-sparse' || name === 'randlora-gpt2' ? 1e-6 : 1e-30,
        )
      }
      await file.close()
    })
  },
)

describe.each(['vera', 'randlora', 'randlora-sparse'])('%s without its fixed bases (save_projection false)', (name) => {
  const folder = peftFolder(`left-out/${name}`)
  it("gives PEFT's logits", async () => {
    const { tuned, params } = await open(folder)
    const reference = await safetensors(`peft/left-out/${name}/reference.safetensors`)
    const { logits } = tuned.forward(params, { ids: await intsOf(reference, 'input_ids') })
    expect(distance(await logits.data(), await reference.floats('logits'))).toBeLessThan(1e-4)
  })
  it('is written with them, and says so', async () => {
    const { tuned, params, config } = await open(folder)
    const again = await saved(tuned, params, { config })
    expect((await readPeftConfig(again))['save_projection']).toBe(true)
    const file = await openCheckpoint(again, { stem: 'adapter_model' })
    expect(file.has(`base_model.${name.split('-')[0]}_A`)).toBe(true)
    expect((await open(again)).tuned.constants).toBeDefined()
  })
})

it('a file that should hold its bases and does not is refused', async () => {
  const folder = peftFolder('left-out/vera')
  const whole = {
    ...folder,
    text: async (file: string) =>
      (await folder.text(file)).replace('"save_projection": false', '"save_projection": true'),
  }
  await expect(open(whole)).rejects.toThrow(/base_model\.vera_A.*missing/)
})
