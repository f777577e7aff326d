import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpu, memory } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { config, entry, ids, peft, run, scored } from './adapter-runs.ts'
import { fixtures, llama3, losses, weft } from './weft.ts'

await cpu()

it('adapters that need a deeper base or another vocabulary get one', async () => {
  for (const name of ['replicated', 'vocabulary-frozen', 'alora']) {
    const { code, out, err } = await weft([
      ...['generate', llama3, '--ids', ids, '--max-tokens', '3', '--backend', 'cpu', '--json', '--adapter', peft(name)],
    ])
    expect(code, `${name}: ${err}`).toBe(0)
    expect(out).toContain('ids')
  }
  const one = await scored(llama3, peft('replicated'))
  expect(one).not.toBe(await scored(llama3))
  const moe = join(fixtures, 'models', 'qwen3_moe')
  expect(await scored(moe, peft('experts-both'))).not.toBe(await scored(moe))
})

describe('a run file with any method', () => {
  it.each([
    ['dora', { rank: 2, alpha: 4 }, {}],
    ['ia3', {}, {}],
    [
      'lora',
      { rank: 2, rank_pattern: { 'attn.v': 3 }, rslora: true, lora_bias: true },
      { use_rslora: true, lora_bias: true },
    ],
    ['hra', { rank: 4 }, {}],
    ['ssf', {}, {}],
    ['lnTuning', {}, {}],
  ] as const)(
    '%s: its options go to it under its own names; what it saves is read again',
    async (method, options, said) => {
      const folder = await entry([
        { method, at: method === 'lnTuning' ? '**.norm2' : 'blocks.*.attn.{q,v}', ...options },
      ])
      const { code, err } = await run(folder)
      expect(code, err).toBe(0)
      const out = join(folder, 'out')
      expect(await config(out)).toMatchObject(said)
      expect(await scored(llama3, out)).not.toBe(await scored(llama3))
      const again = await run(folder, '--set', `adapters=[{ from: ${out} }]`, '--out', join(folder, 'second'))
      expect(again.code, again.err).toBe(0)
      expect((await config(join(folder, 'second')))['peft_type']).toBe((await config(out))['peft_type'])
    },
  )

  it('an option that the method does not have is refused with the nearest, all of them at once', async () => {
    const folder = await entry([
      { method: 'lora', at: 'blocks.*.attn.q', rnak: 8, droput: 0.1 },
      { method: 'ia3', at: 'blocks.*.attn.v', gamma: 1 },
    ])
    const { code, err } = await run(folder)
    expect(code).toBe(1)
    expect(err).toContain("adapters.0.rnak: 'lora' has no such option; did you mean rank?")
    expect(err).toContain("adapters.0.droput: 'lora' has no such option; did you mean dropout?")
    expect(err).toMatch(/adapters\.1\.gamma: 'ia3' has no such option; (there are|did you mean)/)
    expect(err).not.toContain('backend')
  })

  it('a value that the method does not take is said with the place of the entry', async () => {
    const { code, err } = await run(await entry([{ method: 'lora', at: 'blocks.*.attn.q', init: 5, rank: 999 }]))
    expect(code).toBe(1)
    expect(err).toMatch(/rank 999 exceeds min/)
  })

  it('several, each saved in a folder of its name; together and apart they are what they were', async () => {
    const folder = await entry(
      [
        { method: 'lora', at: 'blocks.*.attn.q', rank: 2, name: 'small' },
        { method: 'dora', at: 'blocks.*.mlp.up', rank: 2 },
      ],
      { trains: 'norm' },
    )
    const { code, out } = await run(folder, '--json')
    expect(code).toBe(0)
    expect((JSON.parse(out) as { files: string[] }).files).toEqual([
      'small/adapter_model.safetensors',
      'small/adapter_config.json',
      'dora/adapter_model.safetensors',
      'dora/adapter_config.json',
    ])
    const at = (name: string): string => join(folder, 'out', name)
    expect((await config(at('small')))['modules_to_save']).toEqual(['model.norm'])
    const [both, named] = [await scored(llama3, join(folder, 'out')), await scored(llama3, at('small'), at('dora'))]
    expect(both).toBe(named)
    const alone = [await scored(llama3, at('small')), await scored(llama3, at('dora'))]
    expect(new Set([both, ...alone, await scored(llama3)]).size).toBe(4)
    // the folded model is the same
    const folded = join(folder, 'folded')
    const fold = await weft([
      'fold',
      llama3,
      '--adapter',
      at('small'),
      '--adapter',
      at('dora'),
      '--out',
      folded,
      '--backend',
      'cpu',
    ])
    expect(fold).toMatchObject({ code: 0 })
    expect(await scored(folded)).toBeCloseTo(both, 4)
    // and the run goes on from both
    const next = await entry([{ from: join(folder, 'out') }])
    const again = await run(next)
    expect(again.code, again.err).toBe(0)
  })

  it('a method that starts from a calibration has its pass, a line about it and a file that the next run reads', async () => {
    const folder = await entry([{ method: 'eva', at: 'blocks.*.attn.q', rank: 2 }], { calibrate: { batches: 2 } })
    const first = await run(folder)
    expect(first.code, first.err).toBe(0)
    expect(first.err).toMatch(/calibrating \(.*moment.*\) on up to 2 batches, kept in .*calibration\.safetensors/)
    expect(first.err).toMatch(/\[=+\] 2\/2 {2}calibrating, \d+ tokens/)
    const kept = join(folder, 'out/calibration.safetensors')
    const second = await run(folder, '--set', `calibrate.cache=${kept}`, '--out', join(folder, 'second'))
    expect(second.code).toBe(0)
    expect(second.err).not.toMatch(/\[=+\] 2\/2 {2}calibrating/)
    expect(await losses(join(folder, 'second'))).toEqual(await losses(join(folder, 'out')))
    const other = await run(
      folder,
      '--set',
      `calibrate.cache=${kept}`,
      '--set',
      'calibrate.batches=1',
      '--out',
      join(folder, 'other'),
    )
    expect(other.code).toBe(1)
    expect(other.err).toContain('calibration.safetensors')
  })

  it.each(['corda', 'lora-ga', 'pissa', 'adalora'])('%s is saved as what the model itself can take', async (method) => {
    const folder = await entry([{ method, at: 'blocks.*.attn.q', rank: 2 }], {
      ...{ calibrate: { batches: 2 }, train: { steps: 8, batch: 2, length: 8, lr: 1e-2 } },
    })
    const { code, err } = await run(folder)
    expect(code, err).toBe(0)
    const loss = await scored(llama3, join(folder, 'out'))
    expect(Number.isFinite(loss)).toBe(true)
    expect(loss).not.toBe(await scored(llama3))
    // close to the model that it began from: a start that was saved without its base would be far away
    expect(Math.abs(loss - (await scored(llama3)))).toBeLessThan(0.5)
  })

  it('an adapter that would do nothing is refused, and so is LoftQ without packing', async () => {
    const idle = await run(await entry([{ method: 'x-lora', at: 'blocks.*.mlp' }]))
    expect(idle.code).toBe(1)
    expect(idle.err).toMatch(/adapters\.0\.at: 'x-lora' has nothing to do|x-lora reads/)
    const loftq = await run(await entry([{ method: 'loftq', at: 'blocks.*.attn.q' }]))
    expect(loftq).toMatchObject({
      code: 1,
      err: expect.stringContaining("'loftq' makes up for what packing loses; set base.codec"),
    })
  })

  it('LoftQ sees the matrices as they were before they were packed', async () => {
    const folder = await entry([{ method: 'loftq', at: 'blocks.*.attn.q', rank: 4 }], { base: { codec: 'nf4' } })
    const { code, err } = await run(folder)
    expect(code, err).toBe(0)
  })
})

describe('optimizers of LoRA', () => {
  it('lora_plus and lora_fa train; A stays under lora_fa, and a factor of its own is needed', async () => {
    const tensor = async (folder: string, kind: string): Promise<Float32Array> => {
      const file = await openSafetensors(await fromFile(join(folder, 'adapter_model.safetensors')))
      return file.floats(file.names.find((n) => n.includes(kind))!)
    }
    const folder = await entry([{ method: 'lora', at: 'blocks.*.attn.q', rank: 2, alpha: 6 }])
    const of = async (name: string, ...more: string[]): Promise<string> => {
      const out = join(folder, name)
      const { code, err } = await run(folder, '--set', `train.optimizer=${name}`, ...more, '--out', out)
      expect(code, err).toBe(0)
      return out
    }
    const [plain, plus, fa] = [await of('adamw'), await of('lora_plus'), await of('lora_fa')]
    expect(await tensor(plus, 'lora_B')).not.toEqual(await tensor(plain, 'lora_B'))
    expect(await tensor(fa, 'lora_A')).not.toEqual(await tensor(plain, 'lora_A'))
    const again = await run(
      folder,
      '--set',
      'train.optimizer=lora_fa',
      '--set',
      'train.steps=1',
      '--out',
      join(folder, 'one'),
    )
    expect(again.code).toBe(0)
    expect(await tensor(join(folder, 'one'), 'lora_A')).toEqual(await tensor(fa, 'lora_A'))
    const odd = await run(await entry([{ method: 'ia3', at: 'blocks.*.attn.v' }]), '--set', 'train.optimizer=lora_fa')
    expect(odd).toMatchObject({ code: 1, err: expect.stringContaining('lora_fa is for LoRA') })
    const stray = await run(folder, '--set', 'train.ratio=3')
    expect(stray.err).toContain('train.ratio: is only for train.optimizer: lora_plus, found adamw; leave it out')
  })
})

describe('--estimate', () => {
  it('says within 10 % what the run then takes, writes nothing and does not train', async () => {
    for (const more of [{}, { base: { codec: 'nf4' } }, { adapters: [], trains: '**' }]) {
      const folder = await entry([{ method: 'lora', at: 'blocks.*.{attn,mlp}.{q,v,up,down}', rank: 4 }], more)
      const before = memory().numBytes
      const { code, out, err } = await run(folder, '--estimate', '--json')
      expect(code, err).toBe(0)
      const told = JSON.parse(out) as Record<string, number>
      expect(told['bytes']).toBe(told['network']! + told['adapters']! + told['run']!)
      expect(existsSync(join(folder, 'out'))).toBe(false)
      const held = memory().numBytes
      expect((await run(folder)).code).toBe(0)
      const rows = (await readFile(join(folder, 'out/log.jsonl'), 'utf8')).trim().split('\n')
      const { peak_bytes: peak } = JSON.parse(rows.at(-1)!) as { peak_bytes: number }
      expect(Math.abs(told['bytes']! / (peak - held) - 1), `${JSON.stringify(told)} and ${peak - held}`).toBeLessThan(
        0.1,
      )
      expect(held).toBeGreaterThan(before)
    }
    const said = await run(await entry([{ method: 'lora', at: 'blocks.*.attn.q' }]), '--estimate')
    expect(said.out).toMatch(
      /^[\d.]+ kB at the peak: [\d.]+ kB of weights, [\d.]+ kB of adapters, [\d.]+ kB of optimizer/,
    )
  })
})
