import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpu } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { fixtures, llama3, temporary, weft } from './weft.ts'

await cpu()
const lossOf = async (model: string, ...more: string[]): Promise<number> => {
  const { out } = await weft(['score', model, '--ids', '5,9,14,23,42,7', '--backend', 'cpu', '--json', ...more])
  return (JSON.parse(out) as { loss: number }).loss
}

describe('convert --to moe', () => {
  it('writes a mixture that says what the model said, and trains, packs and generates as any other', async () => {
    const folder = await temporary()
    const moe = join(folder, 'moe')
    const made = await weft(['convert', llama3, moe, '--to', 'moe', '--experts', '4', '--json', '--backend', 'cpu'])
    expect({ code: made.code, err: made.code ? made.err : '' }).toEqual({ code: 0, err: '' })
    const said = JSON.parse(made.out) as { before: number; parameters: number }
    expect(said).toMatchObject({ type: 'mixtral', experts: 4, top: 2 })
    expect(said.parameters - said.before).toBe(2 * (3 * 3 * 48 * 64 + 4 * 48))
    const before = await lossOf(llama3)
    expect(await lossOf(moe)).toBeCloseTo(before, 5)
    const config = JSON.parse(await readFile(join(moe, 'config.json'), 'utf8')) as Record<string, unknown>
    expect(config).toMatchObject({ model_type: 'mixtral', num_local_experts: 4, num_experts_per_tok: 2 })

    const rows = Array.from({ length: 8 }, (_, i) => JSON.stringify({ input_ids: [5, 9, 14, 23, 42, 7, i + 1, 3] }))
    await writeFile(join(folder, 'rows.jsonl'), rows.join('\n'))
    const out = join(folder, 'run')
    await writeFile(
      join(folder, 'run.yaml'),
      JSON.stringify({
        model: moe,
        adapters: [{ method: 'expert-lora', at: 'blocks.*.mlp.experts.*.*', rank: 2 }],
        data: { path: 'rows.jsonl', format: 'ids' },
        train: { steps: 4, batch: 4, length: 8, lr: 0.05 },
        out,
      }),
    )
    const trained = await weft(['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', '--json'])
    expect({ code: trained.code, err: trained.code ? trained.err : '' }).toEqual({ code: 0, err: '' })
    expect(await lossOf(moe, '--adapter', out)).toBeLessThan(before)
    const { out: report } = await weft(['inspect', out])
    expect(report).toContain('target_parameters')

    const packed = join(folder, 'packed')
    expect((await weft(['quantize', moe, packed, '--codec', 'int8', '--backend', 'cpu'])).code).toBe(0)
    expect(await lossOf(packed)).toBeCloseTo(before, 1)
    const generated = await weft(['generate', packed, '--ids', '5,9,14', '--max-tokens', '3', '--backend', 'cpu'])
    expect(generated.code).toBe(0)
  })

  it.each([
    [[llama3, 'o', '--to', 'moe', '--experts', '1'], 2, '--experts must be a whole number of at least 2'],
    [[llama3, 'o', '--to', 'moe', '--top', '9'], 1, 'active must be a whole number from 1 to the 8 experts, found 9'],
    [[llama3, 'o', '--to', 'moe', '--rank', '2'], 2, '--rank is for --to lora, found --to moe'],
    [[join(fixtures, 'models/gpt2'), 'o', '--to', 'moe'], 1, 'no mixture of experts is laid out as gpt2 is'],
    [[llama3, llama3, '--to', 'moe'], 1, 'choose another folder'],
  ])('%j exits with %s: %s', async (args, code, message) => {
    const result = await weft(['convert', ...args, '--backend', 'cpu'])
    expect(result.err).toContain(message)
    expect(result.code).toBe(code)
  })
})
