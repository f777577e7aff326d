import { join } from 'node:path'
import { cpu } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { config, entry, peft, run, scored } from './adapter-runs.ts'
import { fixtures, llama3, temporary, weft } from './weft.ts'

await cpu()

describe('combine, convert, extract', () => {
  it('combine: the sum of two is both at once, and less one it is the other', async () => {
    const out = await temporary()
    const [a, b] = [peft('lora-qv'), peft('lora-all-linear-rslora')]
    const whole = join(out, 'whole')
    const done = await weft(['combine', a, b, whole, '--type', 'cat', '--backend', 'cpu', '--json'])
    expect(done.code).toBe(0)
    expect(JSON.parse(done.out)).toMatchObject({
      out: whole,
      type: 'cat',
      sites: 14,
      rank: [4, 8],
      parameters: expect.any(Number),
      files: ['adapter_model.safetensors', 'adapter_config.json'],
    })
    expect(await scored(llama3, whole)).toBeCloseTo(await scored(llama3, a, b), 4)
    const less = join(out, 'less')
    expect(
      await weft(['combine', whole, a, less, '--weights=1,-1', '--variance', '1', '--backend', 'cpu']),
    ).toMatchObject({ code: 0 })
    expect(await scored(llama3, less)).toBeCloseTo(await scored(llama3, b), 4)
    const some = join(out, 'some')
    expect(await weft(['combine', peft('lora-layers'), peft('lora-qv'), some, '--backend', 'cpu'])).toMatchObject({
      code: 0,
    })
    // modules are named in full: lora-layers adapts one layer only
    expect((await config(some))['target_modules']).toContain('model.layers.1.self_attn.k_proj')
    expect(await scored(llama3, some)).toBeCloseTo(await scored(llama3, peft('lora-layers'), peft('lora-qv')), 4)
    const report = JSON.parse((await weft(['inspect', some, '--json'])).out) as Record<string, unknown>
    expect(report).toMatchObject({ kind: 'adapter', method: 'lora', supported: true, config: { peft_type: 'LORA' } })
  })

  it.each([
    [['combine'], 2, 'combine needs ADAPTER... OUT'],
    [['combine', 'A'], 2, 'combine needs OUT'],
    [['combine', peft('lora-qv'), 'o', '--weights', '1,2'], 2, '1 adapters need 1 weights, found 2'],
    [
      ['combine', peft('lora-qv'), 'o', '--weights', 'x'],
      2,
      "--weights must be numbers with commas between them, found 'x'",
    ],
    [['combine', peft('lora-qv'), 'o', '--type', 'tise'], 2, "--type: there is no 'tise'; there are svd, linear, cat"],
    [['combine', peft('lora-qv'), 'o', '--type', 'ties'], 2, '--type ties needs --density'],
    [
      ['combine', peft('lora-qv'), 'o', '--density', '0.5'],
      2,
      '--density goes with ties, dare and magnitude_prune, found svd',
    ],
    [
      ['combine', peft('lora-qv'), 'o', '--type', 'cat', '--rank', '3'],
      2,
      '--rank goes with a --type that ends in svd, found cat',
    ],
    [['combine', peft('lora-qv'), 'o', '--rank', '3', '--variance', '0.5'], 2, '--variance is a share above 0'],
    [['combine', peft('lora-qv'), 'o', '--sign', 'most'], 2, "--sign must be total or frequency, found 'most'"],
    [['combine', peft('none'), 'o'], 1, 'there is no such adapter; check the path'],
    [['combine', llama3, 'o'], 1, 'no adapter (no adapter_config.json); name the folder of one'],
    [['combine', peft('lora-qv'), peft('lora-bias-all'), 'o'], 1, 'has trained more than LoRA (bias all)'],
    [['combine', peft('lora-qv'), peft('lora-modules-to-save'), 'o'], 1, 'has trained more than LoRA (modules_to_save'],
    [
      ['combine', peft('lora-qv'), peft('lora-patterns'), 'o', '--type', 'linear'],
      1,
      "ranks 4 and 2 differ, and 'linear' mixes",
    ],
    [['combine', peft('lora-qv'), peft('lora-qv'), peft('lora-qv')], 1, 'choose another folder'],
    [['convert', peft('lora-qv')], 2, 'convert needs OUT'],
    [['convert', peft('lora-qv'), 'o'], 2, 'convert needs one of --rank and --variance, found none'],
    [['convert', peft('lora-qv'), 'o', '--rank', '2', '--variance', '0.5'], 2, 'found both'],
    [
      ['convert', peft('lora-qv'), 'o', '--to', 'dora', '--rank', '2'],
      2,
      "--to must be one of lora, compeft, peft, gguf, moe, found 'dora'",
    ],
    [
      ['convert', peft('lora-qv'), 'o', '--rank', '2'],
      1,
      'its config names the model llama3, which is not here; give --model MODEL',
    ],
    [['convert', peft('lora-qv'), 'o', '--rank', 'x'], 2, '--rank must be a whole number of at least 1'],
    [
      ['convert', peft('lora-bias-all'), 'o', '--rank', '2', '--model', join(fixtures, 'models/qwen2')],
      1,
      'has trained more than its adapter',
    ],
    [['extract', llama3, llama3], 2, 'extract needs OUT'],
    [['extract', llama3, llama3, 'o'], 2, 'extract needs one of --rank and --variance'],
    [['extract', llama3, llama3, 'o', '--rank', '2'], 1, 'nothing to extract'],
    [['extract', llama3, llama3, llama3, '--rank', '2'], 1, 'choose another folder'],
    [['extract', llama3, join(fixtures, 'models/qwen2'), 'o', '--rank', '2'], 1, /no such tensor|is .* in one model/],
    [['extract', llama3, llama3, 'o', '--rank', '2', '--at', 'nothing'], 1, 'no site matches'],
    [['fold', llama3, '--out', 'o'], 2, 'fold needs --adapter DIR'],
    [['generate', llama3, '--ids', '1', '--adapter', 'nowhere'], 1, 'there is no such adapter'],
  ] as const)('%j', async (args, code, said) => {
    const out = join(await temporary(), 'o')
    const found = await weft([
      ...args.map((a) => (a === 'o' ? out : a)),
      ...(args.length > 2 ? ['--backend', 'cpu'] : []),
    ])
    expect(found.err).toMatch(said)
    expect(found.code).toBe(code)
  })

  it('convert: another method as a LoRA that does the same; extract: from a folded model', async () => {
    const folder = await entry([{ method: 'dora', at: 'blocks.*.attn.{q,v}', rank: 2 }])
    expect((await run(folder)).code).toBe(0)
    const [dora, made] = [join(folder, 'out'), join(folder, 'made')]
    const done = await weft(['convert', dora, made, '--variance', '1', '--backend', 'cpu', '--json'])
    expect({ code: done.code, err: done.err }).toMatchObject({ code: 0 })
    expect(JSON.parse(done.out)).toMatchObject({ from: ['dora'], sites: 4 })
    expect((await config(made))['use_dora'] ?? false).toBe(false)
    expect(await scored(llama3, made)).toBeCloseTo(await scored(llama3, dora), 4)
    const folded = join(folder, 'folded')
    expect(await weft(['fold', llama3, '--adapter', dora, '--out', folded, '--backend', 'cpu'])).toMatchObject({
      code: 0,
    })
    const taken = join(folder, 'taken')
    const extracted = await weft([
      'extract',
      llama3,
      folded,
      taken,
      '--variance',
      '0.999999',
      '--backend',
      'cpu',
      '--json',
    ])
    expect({ code: extracted.code, err: extracted.err }).toMatchObject({ code: 0 })
    expect(JSON.parse(extracted.out)).toMatchObject({ sites: 4, left: [] })
    expect(await scored(llama3, taken)).toBeCloseTo(await scored(llama3, dora), 3)
  })
})
