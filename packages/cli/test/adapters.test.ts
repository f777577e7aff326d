import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpu, memory } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { afterAll, describe, expect, it } from 'vitest'
import { fixtures, llama3, losses, project, type Result, temporary, weft } from './weft.ts'

await cpu()
const peft = (name: string): string => join(fixtures, 'peft', name)
const run = (folder: string, ...more: string[]): Promise<Result> =>
  weft(['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', ...more])
const config = async (folder: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>
const entry = (adapters: object[], more: object = {}) =>
  project({ adapters, train: { steps: 3, batch: 2, length: 8, lr: 1e-2 }, ...more })
const ids = '3,14,15,9,2,6'
/** log-probabilities of a text */
const scored = async (model: string, ...adapters: string[]): Promise<number> => {
  const { code, out, err } = await weft([
    ...['score', model, '--ids', ids, '--backend', 'cpu', '--json'],
    ...adapters.flatMap((a) => ['--adapter', a]),
  ])
  expect(code, err).toBe(0)
  return (JSON.parse(out) as { loss: number }).loss
}

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

describe('a method of somebody else', () => {
  const scale = `
import { mul, ones } from '@weftjs/tensor'
export const gain = ({ start = 1 } = {}) => ({
  name: 'gain', options: { start },
  init: ({ out }) => ({ state: { g: mul(ones([out]), start) } }),
  around: (next, x, { g }) => mul(next(x), g),
})
`
  const homes: string[] = []
  afterAll(async () => {
    for (const folder of homes) await rm(folder, { recursive: true, force: true })
  })
  /** inside the workspace, so that its imports are found */
  const home = async (): Promise<string> => {
    const cache = fileURLToPath(new URL('../../../.cache', import.meta.url))
    await mkdir(cache, { recursive: true })
    const folder = join(cache, `third-party-${process.pid}-${Math.floor(performance.now() * 1000)}`)
    await mkdir(folder, { recursive: true })
    homes.push(folder)
    return folder
  }
  const install = async (
    folder: string,
    name: string,
    manifest: object,
    files: Record<string, string>,
  ): Promise<void> => {
    const source = await home()
    await writeFile(join(source, 'package.json'), JSON.stringify({ name, type: 'module', ...manifest }))
    for (const [file, text] of Object.entries(files)) await writeFile(join(source, file), text)
    const at = join(folder, 'node_modules', name)
    await mkdir(join(at, '..'), { recursive: true })
    await symlink(source, at)
  }
  const two = `${scale}\nexport const other = gain`

  it.each([
    ['weft-adapter-gain', 'weft-adapter-gain', { main: 'a.js' }, scale],
    ['@some/pkg/gain', '@some/pkg', { exports: { '.': { import: './a.js' } } }, two],
    ['@some/pkg/sub', '@some/pkg', { exports: { './*': './a.js' } }, scale],
  ])('%s is found beside the run file, trained, saved and read again', async (method, name, manifest, text) => {
    const folder = await entry([{ method, at: 'blocks.*.mlp.up', start: 1.5 }])
    await install(folder, name, manifest, { 'a.js': text })
    const { code, err } = await run(folder)
    expect(code, err).toBe(0)
    const out = join(folder, 'out')
    expect(await config(out)).toMatchObject({
      peft_type: 'WEFT_GAIN',
      weft_method: 'gain',
      weft_options: { start: 1.5 },
      weft_package: method,
    })
    const file = await openSafetensors(await fromFile(join(out, 'adapter_model.safetensors')))
    expect(file.names).toHaveLength(2)
    // its folder stands below that of the run file, so that the package is seen from there
    expect(await scored(llama3, out)).not.toBe(await scored(llama3))
    const odd = await run(folder, '--set', 'adapters.0.strat=2')
    expect(odd).toMatchObject({
      code: 1,
      err: expect.stringContaining(`'${method}' has no such option; did you mean start?`),
    })
  })

  it('a file beside the run file', async () => {
    const source = await home()
    await writeFile(join(source, 'mine.js'), two)
    const folder = await entry([{ method: './mine.js', at: 'blocks.*.mlp.up' }])
    await symlink(join(source, 'mine.js'), join(folder, 'mine.js'))
    const unclear = await run(folder)
    expect(unclear).toMatchObject({
      code: 1,
      err: expect.stringContaining("'./mine.js' exports gain, other; name one of them, as ./mine.js/gain"),
    })
    const { code, err } = await run(folder, '--set', 'adapters.0.method=./mine.js/gain')
    expect(code, err).toBe(0)
    expect((await config(join(folder, 'out')))['weft_package']).toBe('./../mine.js/gain')
    expect(await scored(llama3, join(folder, 'out'))).not.toBe(await scored(llama3))
  })

  it('says what is wrong with one', async () => {
    const folder = await entry([{ method: 'weft-adapter-bad', at: 'blocks.*.mlp.up' }])
    const none = await run(folder)
    expect(none).toMatchObject({
      code: 1,
      err: expect.stringContaining("adapters.0.method: there is no 'weft-adapter-bad'"),
    })
    await install(
      folder,
      'weft-adapter-bad',
      { exports: './a.js' },
      { 'a.js': 'export const bad = () => ({ name: 3 })' },
    )
    expect(await run(folder)).toMatchObject({
      code: 1,
      err: expect.stringContaining("'weft-adapter-bad' gives no adapter: it must have a name, init, and one of"),
    })
    expect(await run(folder, '--set', 'adapters.0.method=weft-adapter-bad/no')).toMatchObject({
      ...{ code: 1, err: expect.stringContaining("'weft-adapter-bad/no' exports bad, and no 'no'") },
    })
    await install(folder, 'weft-broken', { exports: './a.js' }, { 'a.js': 'throw new Error("broken inside")' })
    expect(await run(folder, '--set', 'adapters.0.method=weft-broken')).toMatchObject({
      ...{ code: 1, err: expect.stringMatching(/a\.js cannot be loaded: broken inside/) },
    })
    await install(folder, 'weft-empty', { exports: { './x': './x.js' } }, {})
    expect(await run(folder, '--set', 'adapters.0.method=weft-empty')).toMatchObject({
      ...{ code: 1, err: expect.stringContaining("exports nothing as '.'; look at its package.json") },
    })
    // an adapter whose package is gone
    expect(await run(folder, '--set', 'adapters.0.method=dorra')).toMatchObject({
      code: 1,
      err: expect.stringContaining('did you mean dora?'),
    })
  })
})

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
      "an adapter is converted to lora, found 'dora'",
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
