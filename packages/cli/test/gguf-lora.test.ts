import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openGguf, writeGguf } from '@weftjs/quant'
import { cpu } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fileSink, fromFile } from '@weftjs/tensor/checkpoint/file'
import { beforeAll, describe, expect, it } from 'vitest'
import { config, peft, scored } from './adapter-runs.ts'
import { contents, fixtures, llama3, temporary, weft } from './weft.ts'

await cpu()
const model = ['--model', llama3]
const done = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await weft(args)
  expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
  return out
}
const numbersOf = async (folder: string): Promise<Map<string, Float32Array>> => {
  const file = await openSafetensors(await fromFile(join(folder, 'adapter_model.safetensors')))
  const found = new Map<string, Float32Array>()
  for (const name of [...file.names].sort()) found.set(name, await file.floats(name))
  await file.close()
  return found
}
/** as llama.cpp's converter leaves it: without the heads that files of ours say */
const plainly = async (from: string, to: string): Promise<void> => {
  const file = await openGguf(await fromFile(from))
  const tensors = [...file.tensors.values()].map(({ name, type, shape }) => ({
    ...{ name, type, shape, data: () => file.read(name) },
  }))
  const metadata = new Map([...file.metadata].filter(([key]) => !key.startsWith('llama.')))
  await writeGguf(await fileSink(to), { metadata, tensors })
  await file.close()
}

describe('a GGUF LoRA', () => {
  let folder = ''
  let file = ''
  beforeAll(async () => {
    folder = await temporary()
    file = join(folder, 'a.gguf')
    await done('convert', peft('lora-qv'), file, ...model)
  })

  it('is made of a PEFT folder, and is that folder again, number by number', async () => {
    const said = JSON.parse(await done('convert', peft('lora-qv'), join(folder, 'b.gguf'), ...model, '--json'))
    const numbers = [...(await numbersOf(peft('lora-qv'))).values()].reduce((n, v) => n + v.length, 0)
    expect(said).toMatchObject({ sites: 4, rank: [4, 4], parameters: numbers, bytes: (await stat(file)).size })
    const back = join(folder, 'back')
    const { numbers: read } = JSON.parse(await done('convert', file, back, '--to', 'peft', '--json'))
    expect(read).toBe(numbers)
    expect(await numbersOf(back)).toEqual(await numbersOf(peft('lora-qv')))
    const [{ r, lora_alpha, base_model_name_or_path: base }, before] = [
      await config(back),
      await config(peft('lora-qv')),
    ]
    expect([r, lora_alpha, base]).toEqual([before['r'], before['lora_alpha'], before['base_model_name_or_path']])
  })

  it('stands wherever an adapter does', async () => {
    const want = await scored(llama3, peft('lora-qv'))
    expect(await scored(llama3, file)).toBe(want)
    expect(await scored(llama3)).not.toBe(want)
    const ids = ['--ids', '1,2,3', '--max-tokens', '4', '--backend', 'cpu']
    const text = await done('generate', llama3, '--adapter', file, ...ids)
    expect(text).toBe(await done('generate', llama3, '--adapter', peft('lora-qv'), ...ids))
    for (const [out, a] of [
      ['folded', file],
      ['want', peft('lora-qv')],
    ] as const)
      await done('fold', llama3, '--adapter', a, '--out', join(folder, out), '--backend', 'cpu')
    expect(await contents(join(folder, 'folded'))).toEqual(await contents(join(folder, 'want')))
    const both = join(folder, 'both')
    await done('combine', file, peft('lora-qv'), both, '--type', 'cat', '--weights', '0.5,0.5', '--backend', 'cpu')
    expect(await scored(llama3, both)).toBeCloseTo(want, 5)
    const lora = join(folder, 'lora')
    await done('convert', file, lora, ...model, '--rank', '4', '--backend', 'cpu')
    expect(await scored(llama3, lora)).toBeCloseTo(want, 5)
    await done('convert', file, join(folder, 'a.cpft'), '--keep', '1', '--magnitude', 'own')
    expect(await scored(llama3, join(folder, 'a.cpft'))).toBeCloseTo(want, 3)
    const report = JSON.parse(await done('inspect', file, '--json'))
    expect(report).toMatchObject({ kind: 'adapter', method: 'lora' })
    expect(report.metadata).toMatchObject({ 'general.type': 'adapter', 'adapter.lora.alpha': '8' })
  })

  it('has scales of modules that differ, and numbers of 16 bits', async () => {
    const out = join(folder, 'patterns.gguf')
    await done('convert', peft('rslora-patterns'), out, ...model)
    expect(await scored(llama3, out)).toBeCloseTo(await scored(llama3, peft('rslora-patterns')), 5)
    await done('convert', peft('rslora-patterns'), out, ...model, '--dtype', 'F16')
    const report = JSON.parse(await done('inspect', out, '--json'))
    expect(report.dtypes).toEqual({ F16: report.tensors.length })
    expect(await scored(llama3, out)).toBeCloseTo(await scored(llama3, peft('rslora-patterns')), 2)
  })

  it('of llama.cpp, which does not say its heads, is put in order by the model', async () => {
    const plain = join(folder, 'plain.gguf')
    await plainly(file, plain)
    expect(await scored(llama3, plain)).toBe(await scored(llama3, peft('lora-qv')))
    const { code, err } = await weft(['combine', plain, plain, join(folder, 'x'), '--backend', 'cpu'])
    expect([code, err]).toEqual([1, expect.stringContaining(`weft convert ${plain} DIR --to peft --model MODEL`)])
    await done('convert', plain, join(folder, 'named'), '--to', 'peft', ...model)
    expect(await numbersOf(join(folder, 'named'))).toEqual(await numbersOf(peft('lora-qv')))
  })

  it.each([
    [['convert', peft('dora'), 'o.gguf', ...model], 1, 'use_dora: llama.cpp does not compute it; weft convert'],
    [['convert', peft('oft'), 'o.gguf', ...model], 1, `is "OFT", and llama.cpp knows LoRA alone; weft convert`],
    [['convert', peft('pissa'), 'o.gguf', ...model], 1, '--to lora --rank N makes a LoRA of it'],
    [['convert', peft('lora-modules-to-save'), 'o.gguf', ...model], 1, 'is no part of a LoRA; weft fold MODEL'],
    [['convert', peft('lora-qv'), 'o.gguf'], 1, 'names the model llama3, which is not here; give --model MODEL'],
    [['convert', peft('lora-qv'), 'o.gguf', ...model, '--rank', '2'], 2, '--rank is for --to lora, found --to gguf'],
    [
      ['convert', peft('lora-qv'), 'o', '--rank', '2', '--dtype', 'F16'],
      2,
      '--dtype is for --to gguf, found --to lora',
    ],
    [['convert', peft('lora-qv'), 'o.gguf', ...model, '--dtype', 'Q8_0'], 2, "must be F32, F16, BF16, found 'Q8_0'"],
    [
      ['convert', peft('lora-qv'), peft('lora-qv'), '--to', 'gguf', ...model],
      1,
      'a folder, and a GGUF file is written',
    ],
    [['convert', 'FILE', 'o.gguf', ...model], 1, 'is a GGUF file already; --to peft makes it a folder'],
    [['convert', 'CUT', 'o', '--to', 'peft'], 1, 'the file is truncated or damaged'],
    [['score', llama3, '--ids', '1,2', '--adapter', 'CUT', '--backend', 'cpu'], 1, 'the file is truncated or damaged'],
    [['score', llama3, '--ids', '1,2', '--adapter', 'MODEL', '--backend', 'cpu'], 1, 'is no LoRA (general.type'],
    [
      ['score', join(fixtures, 'models/qwen2'), '--ids', '1,2', '--adapter', 'FILE', '--backend', 'cpu'],
      1,
      'the adapter is for llama, and the model is "qwen2"',
    ],
  ] as const)('%j is refused', async (args, code, said) => {
    const here = await temporary()
    const path: Record<string, string> = { FILE: file }
    for (const name of ['CUT', 'MODEL', 'o', 'o.gguf']) path[name] = join(here, name)
    const whole = await readFile(file)
    await writeFile(path['CUT']!, whole.subarray(0, whole.length - 700))
    await writeGguf(await fileSink(path['MODEL']!), {
      metadata: new Map([['general.architecture', { type: 'string', value: 'llama' }]]),
      tensors: [],
    })
    const found = await weft(args.map((a) => path[a] ?? a))
    expect(found.err).toContain(said)
    expect(found.code).toBe(code)
    for (const out of ['o', 'o.gguf']) expect(await stat(path[out]!).catch(() => undefined)).toBeUndefined()
  })
})

const tool = fileURLToPath(new URL('../../../tools/llama-cpp.mjs', import.meta.url))
const installed = existsSync(join(tool, '../../.cache/llama-cpp/node_modules/node-llama-cpp'))
const PROMPTS = ['Once upon a time', 'The little dog saw 12 birds and', 'In the morning the king said to']

describe.skipIf(!installed)('in llama.cpp (skipped unless `node tools/llama-cpp.mjs install` was run)', () => {
  it('an adapter trained here makes it write the same greedy text', { timeout: 300_000 }, async () => {
    const folder = await temporary()
    const at = (name: string): string => join(folder, name)
    await writeFile(at('text.txt'), 'The weaver wove a thread of gold and blue, and the loom sang all day. '.repeat(40))
    const settings = {
      model: 'mini',
      adapters: [{ method: 'rslora', at: 'blocks.*.{attn.{q,k,v,o},mlp.{gate,up,down}}', rank: 4, alpha: 8 }],
      data: { path: at('text.txt'), format: 'text' },
      train: { steps: 8, batch: 2, length: 32, lr: 5e-3 },
      out: at('run'),
    }
    await writeFile(at('run.yaml'), JSON.stringify(settings))
    await done('finetune', at('run.yaml'), '--backend', 'wasm')
    await done('convert', at('run'), at('lora.gguf'))
    const texts = async (...more: string[]): Promise<string[]> => {
      const found: string[] = []
      for (const prompt of PROMPTS)
        found.push(
          JSON.parse(
            await done(
              ...['generate', 'mini', '--prompt', prompt, '--max-tokens', '24', '--backend', 'wasm', '--json'],
              ...['--temperature', '0', ...more],
            ),
          ).text as string,
        )
      return found
    }
    const jobs = []
    for (const type of ['F32', 'F16']) {
      await done('quantize', 'mini', at(`${type}.gguf`), '--codec', `gguf:${type}`)
      for (const lora of [undefined, at('lora.gguf')])
        jobs.push({ model: at(`${type}.gguf`), prompts: PROMPTS, tokens: 24, ...(lora && { lora }) })
    }
    const { stdout, stderr, status } = spawnSync(process.execPath, [tool, 'run'], {
      input: JSON.stringify(jobs),
      encoding: 'utf8',
    })
    expect(status, stderr).toBe(0)
    const answers = (JSON.parse(stdout.trim().split('\n').at(-1)!) as { text: string }[][]).map((a) =>
      a.map(({ text }) => text),
    )
    const [base, tuned] = [await texts(), await texts('--adapter', at('run'))]
    expect(await texts('--adapter', at('lora.gguf'))).toEqual(tuned)
    expect(tuned).not.toEqual(base)
    expect(answers).toEqual([base, tuned, base, tuned])
  })
})
