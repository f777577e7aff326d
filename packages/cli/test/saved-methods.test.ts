import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { cpu } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { config, entry, peft, run, scored } from './adapter-runs.ts'
import { llama3, temporary, weft } from './weft.ts'

await cpu()

/** loss on what is set aside, after a run and after another that starts from what it saved and learns nothing */
const measured = async (folder: string, ...more: string[]): Promise<readonly [number, number]> => {
  const first = await run(folder, '--json', ...more)
  expect(first.code, first.err).toBe(0)
  const from = ['--set', `adapters=[{ from: ${join(folder, 'out')} }]`, '--set', 'train.lr=1e-30']
  const second = await run(folder, '--json', ...more, ...from, '--out', join(folder, 'again'))
  expect(second.code, second.err).toBe(0)
  const [a, b] = [first, second].map(({ out }) => (JSON.parse(out) as { validation: number }).validation)
  return [a!, b!]
}
const aside = { data: { path: 'ids.jsonl', format: 'ids', validation: 0.25 } }

it('X-LoRA has folders for its LoRAs, and is read again and trained on', async () => {
  const at = ['model', 'norm', 'head', 'blocks.*.attn.{q,v}']
  const folder = await entry([{ method: 'x-lora', at, rank: 2, depth: 2, width: 6, train_experts: true }], aside)
  const [before, after] = await measured(folder)
  expect(after).toBeCloseTo(before, 5)
  const names = ['adapter_model.safetensors', 'adapter_config.json']
  const files = ['0/', '1/', ''].flatMap((f) => names.map((n) => `${f}${n}`))
  for (const out of ['out', 'again']) for (const file of files) expect(existsSync(join(folder, out, file))).toBe(true)
  expect(await config(join(folder, 'out'))).toMatchObject({ peft_type: 'XLORA', xlora_size: 6 })
  expect(await scored(llama3, join(folder, 'out'))).not.toBe(await scored(llama3))
})

it("X-LoRA of PEFT's is opened", async () => {
  expect(await scored(llama3, peft('xlora'))).not.toBe(await scored(llama3))
})

it.each([{ top: 400, kappa: 4 }, { budget: 500 }])('SPT is read again without a calibration, %j', async (options) => {
  const at = 'blocks.*.{attn,mlp}.{q,v,up,down}'
  const folder = await entry([{ method: 'spt', at, rank: 1, ...options }], { ...aside, calibrate: { batches: 2 } })
  const [before, after] = await measured(folder)
  expect(after).toBeCloseTo(before, 5)
  const { weft_options: saved } = await config(join(folder, 'out'))
  const plan = Object.values((saved as { plan: Record<string, unknown> }).plan)
  expect(plan.some((n) => n === 'lora' || Number(n) > 0)).toBe(true)
  expect(await scored(llama3, join(folder, 'out'))).not.toBe(await scored(llama3))
})

it('what IncreLoRA has grown is read again', async () => {
  const growth = { target: 2, top: 2, every: 1, warm: 0, increment: 1 }
  const folder = await entry([{ method: 'incre-lora', at: 'blocks.*.attn.{q,v}', ...growth }], {
    ...aside,
    train: { steps: 6, batch: 2, length: 8, lr: 1e-2 },
  })
  const [before, after] = await measured(folder)
  expect(after).toBeCloseTo(before, 5)
  const { weft_options: saved } = await config(join(folder, 'out'))
  const ranks = Object.values((saved as { ranks: Record<string, [number, number]> }).ranks)
  expect(ranks.reduce((n, [r]) => n + r, 0)).toBe(8)
  expect(ranks.every(([r, width]) => r === width)).toBe(true)
})

describe('LoftQ on a model that is packed already', () => {
  const packed = async (): Promise<string> => {
    const out = join(await temporary(), 'packed')
    const { code, err } = await weft(['quantize', llama3, out, '--codec', 'nf4', '--backend', 'cpu'])
    expect(code, err).toBe(0)
    return out
  }
  const loftq = { method: 'loftq', at: 'blocks.*.attn.q', rank: 8 }

  it('sees the original that the run file names, and is a LoRA of the packed model', async () => {
    const model = await packed()
    const folder = await entry([{ ...loftq, original: llama3 }], { ...aside, model })
    const [before, after] = await measured(folder)
    expect(after).toBeCloseTo(before, 5)
    expect(await scored(model, join(folder, 'out'))).not.toBe(await scored(model))
    // where nothing is learned, what it starts with: B is zero in LoRA's start alone
    const still = await run(folder, '--set', 'train.lr=1e-30', '--restart')
    expect(still.code, still.err).toBe(0)
    const file = await openSafetensors(await fromFile(join(folder, 'out/adapter_model.safetensors')))
    const b = await file.floats(file.names.find((n) => n.includes('lora_B'))!)
    expect(b.some((v) => Math.abs(v) > 1e-4)).toBe(true)
  })

  it('says where there is none, and where nothing is packed', async () => {
    const said = async (model: string, adapter: object): Promise<string> => {
      const { code, err } = await run(await entry([adapter], { model }))
      expect(code).toBe(1)
      return err
    }
    const model = await packed()
    expect(await said(model, loftq)).toContain('name the model before it was packed as adapters.0.original')
    expect(await said(llama3, { ...loftq, original: llama3 })).toContain('adapters.0.original: no matrix of')
    expect(await said(model, { ...loftq, original: 3 })).toContain('adapters.0.original: must be a model')
    expect(await said(model, { ...loftq, original: '/nowhere' })).toContain('adapters.0.original: there is no /nowhere')
    expect(await said(llama3, { ...loftq, method: 'lora', original: llama3 })).toContain(
      "adapters.0.original: 'lora' has no such option",
    )
  })
})
