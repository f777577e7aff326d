import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bytesOf } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { openFolder, openNetwork, weigh } from '../src/models.ts'
import { contents, llama3, speaking, temporary, weft } from './weft.ts'

const cpu = ['--backend', 'wasm'] as const
const greedy = async (model: string): Promise<string> => {
  const { code, out, err } = await weft([
    ...['generate', model, '--prompt', 'The king', '--max-tokens', '8', '--temperature', '0', ...cpu],
  ])
  expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
  return out
}
const quantized = async (codec: string, ...more: string[]): Promise<{ out: string; said: Record<string, unknown> }> => {
  const out = join(await temporary(), codec.replace(/\W/g, '-'))
  const { code, out: text, err } = await weft(['quantize', 'mini', out, '--codec', codec, '--json', ...cpu, ...more])
  expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
  return { out, said: JSON.parse(text) as Record<string, unknown> }
}

it('keys and values in 8 bits give the same greedy text, in a staircase at first the very same numbers', async () => {
  const said = async (...more: string[]): Promise<{ ids: number[]; logprobs: number[] }> => {
    const { code, out, err } = await weft([
      ...['generate', 'mini', '--prompt', 'The king', '--max-tokens', '48', '--json', ...cpu, ...more],
    ])
    expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
    return JSON.parse(out) as { ids: number[]; logprobs: number[] }
  }
  const whole = await said()
  expect((await said('--kv', 'staircase')).logprobs).toEqual(whole.logprobs) // no token is 128 old
  const small = await said('--kv', 'int8')
  expect(small.logprobs.slice(0, 8)).toEqual(whole.logprobs.slice(0, 8)) // tokens go together, 32 at a time
  expect(small.logprobs).not.toEqual(whole.logprobs)
  expect(small.ids).toEqual(whole.ids)
  const odd = await weft(['generate', 'mini', '--prompt', 'x', '--kv', 'int9'])
  expect(odd).toMatchObject({ code: 2, err: expect.stringContaining("--kv must be int8 or staircase, found 'int9'") })
})

it('moments of 8 and of 4 bits train', async () => {
  const folder = await temporary()
  const texts = join(folder, 'texts.txt')
  await writeFile(texts, 'The king was in the garden, and the queen was in the house. '.repeat(40))
  for (const states of ['int8', 'int4']) {
    const run = async (out: string, steps: number, ...more: string[]): Promise<string> => {
      const file = join(folder, 'run.yaml')
      await writeFile(
        file,
        JSON.stringify({
          ...{ model: 'mini', adapters: [{ method: 'lora', at: '**.up', rank: 8 }], out: join(folder, out) },
          data: { path: texts, format: 'text' },
          train: { steps, batch: 2, length: 32, lr: 0.01, schedule: 'constant', states },
        }),
      )
      const { code, err } = await weft(['finetune', file, ...cpu, ...more])
      expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
      return readFile(join(folder, out, 'log.jsonl'), 'utf8')
    }
    const losses = (log: string): number[] =>
      log
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { loss: number }).loss)
    const whole = losses(await run(`${states}-whole`, 6))
    expect(whole.at(-1)!).toBeLessThan(whole[0]! - 0.1)
  }
})

describe('quantize', () => {
  it.each([
    ['hqq:bits=4,group=32', 'hqq', 5],
    ['fp8', 'compressed-tensors', 8.2],
    ['int4:group=32', 'weft', 5.2],
    ['gguf:Q4_0', 'weft', 4.5],
    ['mixed:bits=4.6', 'weft', 4.6],
  ])('%s is written in the layout of %s, and runs', async (codec, layout, bits) => {
    const { out, said } = await quantized(codec)
    expect(said).toMatchObject({ layout, matrices: 28 })
    expect(said['bits_per_weight']).toBeLessThanOrEqual(bits)
    expect((await greedy(out)).length).toBeGreaterThan(8)
  })

  it.each([
    ['nf4-dq', 4.14],
    ['outliers:of=int8,threshold=3', 12],
  ])('what is said of %s is what the file holds, and a second time is from the file in memory', async (codec, most) => {
    const { out, said } = await quantized(codec)
    const network = await openNetwork(await openFolder(out))
    const packed = Object.values(network.weights).filter((w) => w.codec)
    expect(packed).toHaveLength(28)
    const values = (weights: typeof packed): number => weights.reduce((n, w) => n + w.shape[0] * w.shape[1], 0)
    expect(said['bytes_before']).toBe(4 * values(Object.values(network.weights)))
    expect(said['bytes_after']).toBe(weigh(network))
    expect(said['bits_per_weight']).toBeCloseTo((8 * packed.reduce((n, w) => n + bytesOf(w.parts), 0)) / values(packed))
    expect(said['bits_per_weight']).toBeLessThan(most)
    const again = `${out}-again`
    const { code, err } = await weft(['quantize', out, again, '--codec', 'int8', '--at', 'embed', ...cpu])
    expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
    expect((await openNetwork(await openFolder(again))).weights['embed']!.codec?.name).toBe('int8')
  })

  it.each([
    ['gptq:group=32', 'gptq'],
    ['awq:group=32', 'awq'],
  ])('%s looks at texts, and says so where there are none', async (codec, layout) => {
    const bare = await weft(['quantize', 'mini', join(await temporary(), 'x'), '--codec', codec])
    expect(bare).toMatchObject({ code: 1, err: expect.stringContaining('give it texts with --calibrate FILE') })
    const texts = join(await temporary(), 'texts.txt')
    await writeFile(texts, 'The king was in the garden, and the queen was in the house. '.repeat(40))
    const { out, said } = await quantized(codec, '--calibrate', texts, '--batches', '2')
    expect(said).toMatchObject({ layout, matrices: 28 })
    expect((await greedy(out)).length).toBeGreaterThan(8)
  })

  it('mixed goes by what the model reads where there are texts, and says what it goes by without', async () => {
    const texts = join(await temporary(), 'texts.txt')
    await writeFile(texts, 'The king was in the garden, and the queen was in the house. '.repeat(40))
    const chosen = async (codec: string, ...more: string[]): Promise<{ formats: string[]; err: string }> => {
      const out = join(await temporary(), 'out')
      const { code, err } = await weft(['quantize', 'mini', out, '--codec', codec, ...cpu, ...more])
      expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
      const { out: text } = await weft(['inspect', out, '--json'])
      return {
        formats: (JSON.parse(text) as { tensors: { name: string; shape: number[] }[] }).tensors.map(
          (t) => `${t.name} ${t.shape}`,
        ),
        err,
      }
    }
    const blind = await chosen('mixed:bits=4')
    expect(blind.err).toContain('--calibrate FILE shows it what the model reads')
    const seeing = await chosen('mixed:bits=4', '--calibrate', texts, '--batches', '2')
    expect(seeing.err).not.toContain('--calibrate')
    expect(seeing.err).toMatch(/[34]\.\d+ bits, matrices: .*\d in int3 in groups of 64/)
    expect(seeing.formats).not.toEqual(blind.formats)
    for (const [codec, said] of [
      ['mixed:bits=4,by=luck', 'by must be one of fisher, kl, error'],
      ['mixed:bits=4,by=kl', 'mixed looks at what the model reads; give it texts with --calibrate FILE'],
      ['mixed:bits=4,of=gptq', 'mixed looks at what the model reads; give it texts with --calibrate FILE'],
      ['mixed:bits=4,of=awq:clip=true', 'of must be a list of codecs, or the name of one in 2, 3, 4 and 8 bits'],
      ['mixed:bits=4,of=nf4', "nf4 has no option 'bits'"],
    ] as const)
      expect((await weft(['quantize', 'mini', 'x', '--codec', codec])).err).toContain(said)
  })

  it('mixed chooses among formats that look at what the model reads', async () => {
    const texts = join(await temporary(), 'texts.txt')
    await writeFile(texts, 'The king was in the garden, and the queen was in the house. '.repeat(40))
    const codec = 'mixed:bits=3.6,of=["gptq:bits=2,group=64","gptq:bits=4,group=64",{"name":"int3","group":64}]'
    const { out, said } = await quantized(codec, '--calibrate', texts, '--batches', '2')
    expect(said).toMatchObject({ layout: 'weft', matrices: 28 })
    expect(said['bits_per_weight']).toBeLessThanOrEqual(3.6)
    expect((await greedy(out)).length).toBeGreaterThan(8)
    const folder = join(await temporary(), 'out')
    const ladder = ['--codec', 'mixed:bits=3.3,of=gptq', '--calibrate', texts, '--batches', '1', ...cpu]
    const { code, err } = await weft(['quantize', 'mini', folder, '--at', 'blocks.0.**', ...ladder])
    expect({ code, err }).toMatchObject({ code: 0, err: expect.stringMatching(/gptq of \d bits in groups of (32|64)/) })
  })

  it('a GGUF file is written and is a model again, with the same greedy text', async () => {
    const out = join(await temporary(), 'mini.gguf')
    const made = await weft(['quantize', 'mini', out, '--codec', 'gguf:F16', ...cpu])
    expect(made).toMatchObject({ code: 0, out: expect.stringContaining('in F16') })
    expect(await greedy(out)).toBe(await greedy('mini'))
    const { out: text } = await weft(['inspect', out, '--json'])
    const report = JSON.parse(text) as {
      kind: string
      dtypes: Record<string, number>
      metadata: Record<string, string>
    }
    expect(report.kind).toBe('model')
    expect(report.dtypes['F16']).toBeGreaterThan(28)
    expect(report.metadata['general.architecture']).toBe('llama')
    const refused = await weft(['quantize', 'mini', out.replace('.gguf', '.q.gguf'), '--codec', 'gguf:Q9_9'])
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("no GGUF mix 'Q9_9'") })
    expect(await readdir(join(out, '..'))).toEqual(['mini.gguf'])
  })

  it('errors of a GGUF file are weighed by what texts show, and by an importance matrix', async () => {
    const folder = await temporary()
    const texts = join(folder, 'texts.txt')
    await writeFile(
      texts,
      'The weaver wove a thread. The loom stood by the window, and the thread ran over it.\n'.repeat(20),
    )
    const imatrix = join(folder, 'imatrix.dat')
    const bytes = new Uint8Array(4)
    bytes[0] = 1
    await writeFile(imatrix, bytes)
    const made = async (...more: string[]): Promise<Uint8Array> => {
      const out = join(folder, 'made.gguf')
      const { code, err } = await weft(['quantize', 'mini', out, '--codec', 'gguf:Q4_1', ...more, ...cpu])
      expect(code, err).toBe(0)
      return readFile(out)
    }
    const [blind, seeing] = [await made(), await made('--calibrate', texts, '--batches', '2')]
    expect(seeing.length).toBe(blind.length)
    expect(Buffer.compare(seeing, blind)).not.toBe(0)
    const refused = await weft([
      'quantize',
      'mini',
      join(folder, 'x.gguf'),
      '--codec',
      'gguf:Q4_0',
      '--imatrix',
      imatrix,
    ])
    expect(refused).toMatchObject({
      code: 1,
      err: expect.stringContaining('this is no importance matrix of llama.cpp'),
    })
    const both = ['--codec', 'gguf:Q4_0', '--imatrix', imatrix, '--calibrate', texts]
    expect((await weft(['quantize', 'mini', 'x.gguf', ...both])).err).toContain('give one of them')
  })

  it('a layout that cannot hold the format is refused before anything is written', async () => {
    const out = join(await temporary(), 'out')
    const { code, err } = await weft(['quantize', llama3, out, '--codec', 'nf4', '--layout', 'gptq', ...cpu])
    expect({ code, err }).toEqual({
      code: 1,
      err: expect.stringContaining("gptq has no layout for the codec 'nf4'"),
    })
    expect(await readdir(join(out, '..'))).toEqual([])
  })

  it.each([
    [['MODEL', 'o', '--codec', 'nf5'], 2, "--codec: there is no codec 'nf5'; did you mean nf4?"],
    [['MODEL', 'o', '--codec', 'constructor'], 2, "--codec: there is no codec 'constructor'; there are affine, aqlm, "],
    [['MODEL', 'o', '--codec', ''], 2, "--codec: there is no codec ''; there are "],
    [['MODEL', 'o', '--codec', 'int4:__proto__=1'], 2, "--codec: int4 has no option '__proto__'; it has "],
    [
      ['MODEL', 'o', '--codec', 'int4:group=128'],
      1,
      /model\.safetensors: .*_proj\.weight": int4: rows of 48 .* group 16/,
    ],
    [['MODEL', 'o', '--codec', 'dynamic8'], 2, 'dynamic8 is for an optimizer: set train.states to int8 in a run file'],
    [
      ['MODEL', 'o', '--codec', 'mixed:bits=1'],
      1,
      /attn\.q: none of int2, int3, gguf takes \[48,48\] \(int2: rows of 48/,
    ],
    [
      ['MODEL', 'o', '--codec', 'nf4', '--at', '**.upp'],
      1,
      'at: no site matches "**.upp"; nearest are blocks.0.mlp.up',
    ],
    [['MODEL', 'MODEL', '--codec', 'nf4'], 1, 'is the folder of the model itself; choose another folder'],
    [['small.gguf', 'small.gguf', '--codec', 'gguf:F16'], 1, 'is the file of the model itself; choose another file'],
    [['MODEL', 'o.gguf', '--codec', 'gguf:F16', '--at', '**.q'], 2, '--at is for a folder: in a GGUF file F16 says'],
    [
      ['hostile.gguf', 'o', '--codec', 'nf4'],
      1,
      /hostile\.gguf: byte 16: 1099511627776 tensors cannot lie in .* download/,
    ],
    [['words.txt', 'o', '--codec', 'nf4'], 1, 'words.txt: a file, not a folder; name the folder that has config.json'],
    [
      ['SPEAKING', 'o', '--codec', 'gptq:group=8', '--calibrate', 'void.txt'],
      1,
      /--calibrate: .*void\.txt: the data holds no rows/,
    ],
    [
      ['SPEAKING', 'o', '--codec', 'gptq:group=8', '--calibrate', 'no.txt'],
      1,
      /no\.txt: no such file or folder; check the path/,
    ],
  ] as const)('%j is refused', async (args, code, said) => {
    const folder = await temporary()
    const at = (name: string): string => join(folder, name)
    const head = Buffer.alloc(24)
    head.write('GGUF')
    head.writeUInt32LE(3, 4)
    head.writeBigUInt64LE(2n ** 40n, 8)
    await writeFile(at('hostile.gguf'), head)
    await writeFile(at('words.txt'), 'words')
    await writeFile(at('void.txt'), '')
    if ((args as readonly string[]).includes('small.gguf'))
      expect((await weft(['quantize', llama3, at('small.gguf'), '--codec', 'gguf:F16', ...cpu])).code).toBe(0)
    const model = join(folder, 'MODEL')
    await cp(llama3, model, { recursive: true })
    const spoken = (args as readonly string[]).includes('SPEAKING') ? await speaking() : ''
    const before = await contents(folder)
    const where = args.map((a) => (a === 'SPEAKING' ? spoken : /^(MODEL|o|.*\.(gguf|txt))$/.test(a) ? at(a) : a))
    const found = await weft(['quantize', ...where, ...cpu])
    if (typeof said === 'string') expect(found.err).toContain(said)
    else expect(found.err).toMatch(said)
    expect({ code: found.code, out: found.out }).toEqual({ code, out: '' })
    expect(await contents(folder)).toEqual(before)
  })

  it('says that a format does not look at the texts that it is given', async () => {
    const out = join(await temporary(), 'out')
    const { code, err } = await weft(['quantize', llama3, out, '--codec', 'nf4', '--calibrate', 'no.txt', ...cpu])
    expect(err).toContain('--calibrate: nf4 looks at nothing that the model reads')
    expect(code).toBe(0)
  })
})
