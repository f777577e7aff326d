import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Checkpoint, fromBytes, openSafetensors } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import { contents, fixtures, llama3, speaking, temporary, vocabulary, weft } from './weft.ts'

const tensors = async (path: string): Promise<Checkpoint> => openSafetensors(fromBytes(await readFile(path), path))
const cpu = ['--backend', 'cpu']
const greatest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length)
  let most = 0
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!))
  return most
}
const rms = (x: Float32Array): number => Math.sqrt(x.reduce((n, v) => n + v * v, 0) / x.length)
const ok = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await weft([...args, ...cpu])
  expect({ code, err }).toMatchObject({ code: 0 })
  return out
}
const adapter = join(fixtures, 'peft/lora-qv')

/** the first row of a fixture's ids, and what the reference library made of it */
const reference = async (folder: string): Promise<{ ids: number[]; logits: Float32Array; file: Checkpoint }> => {
  const file = await tensors(join(folder, 'reference.safetensors'))
  const length = file.entry('input_ids').shape[1]!
  const ids = [...(await file.ints('input_ids'))].map(Number).slice(0, length)
  const all = await file.floats('logits')
  return { ids, logits: all.slice(0, all.length / 2), file }
}
const logitsOf = async (model: string, ids: readonly number[], ...more: string[]): Promise<Float32Array> => {
  const path = join(await temporary(), 'logits.safetensors')
  await ok('score', model, '--ids', ids.join(), '--logits', path, ...more)
  const file = await tensors(path)
  expect(file.names).toEqual(['logits'])
  expect(file.entry('logits')).toMatchObject({ dtype: 'F32', shape: [ids.length, 96] })
  return file.floats('logits')
}
const logSoftmax = (row: Float32Array, id: number): number => {
  const top = Math.max(...row)
  return row[id]! - top - Math.log(row.reduce((n, z) => n + Math.exp(z - top), 0))
}

describe('score', () => {
  it('gives the logits of transformers, the loss and each log-probability', async () => {
    const { ids, logits } = await reference(llama3)
    expect(greatest(await logitsOf(llama3, ids), logits)).toBeLessThan(1e-4)
    const said = JSON.parse(await ok('score', llama3, '--ids', ids.join(), '--json')) as {
      loss: number
      tokens: { id: number; logprob: number | null }[]
    }
    expect(Object.keys(said)).toEqual(['loss', 'tokens'])
    expect(said.tokens.map((t) => t.id)).toEqual(ids)
    expect(said.tokens[0]!.logprob).toBeNull()
    const expected = ids.slice(1).map((id, t) => logSoftmax(logits.subarray(t * 96, (t + 1) * 96), id))
    expect(
      greatest(
        said.tokens.slice(1).map((t) => t.logprob!),
        expected,
      ),
    ).toBeLessThan(1e-4)
    expect(said.loss).toBeCloseTo(-expected.reduce((a, b) => a + b, 0) / expected.length, 4)
  })

  it('gives those of PEFT with an adapter', async () => {
    const { ids, logits } = await reference(adapter)
    expect(greatest(await logitsOf(llama3, ids, '--adapter', adapter), logits)).toBeLessThan(1e-4)
    expect(greatest(await logitsOf(llama3, ids), logits)).toBeGreaterThan(0.1)
  })

  it('takes text and files, in pieces where they are long, and a single token', async () => {
    const model = await speaking()
    const file = join(model, 'long.txt')
    const text = 'The cat of the ship dictates her log to the boy, and the boy writes it down. '.repeat(8)
    await writeFile(file, text)
    const whole = JSON.parse(await ok('score', model, '--file', file, '--json')) as {
      loss: number
      tokens: { logprob: number | null }[]
    }
    expect(whole.tokens.length).toBeGreaterThan(64)
    expect(whole.tokens.flatMap((t, i) => (t.logprob === null ? [i] : []))).toEqual(
      Array.from({ length: Math.ceil(whole.tokens.length / 64) }, (_, i) => 64 * i),
    )
    expect(whole.loss).toBeCloseTo(Math.log(vocabulary), 1)
    expect(await ok('score', model, '--text', 'The cat')).toMatch(
      /^loss 5\.\d+ nats, perplexity \d+\.\d+, \d+ predictions\n/,
    )
    expect(JSON.parse(await ok('score', llama3, '--ids', '5', '--json'))).toEqual({
      loss: null,
      tokens: [{ id: 5, logprob: null }],
    })
  })
})

describe('generate', () => {
  it('goes on greedily with the ids of transformers', async () => {
    const { file } = await reference(llama3)
    const all = [...(await file.ints('generated'))].map(Number)
    const args = ['generate', llama3, '--ids', all.slice(0, 6).join(), '--max-tokens', '16']
    const said = JSON.parse(await ok(...args, '--json')) as Record<string, unknown>
    expect(said).toMatchObject({ text: '', ids: all.slice(6), finish: 'length' })
    expect(said['logprobs']).toHaveLength(16)
    expect(await ok(...args)).toBe(`${all.slice(6).join()}\n`)
  })

  it('writes text, the same for the same seed', async () => {
    const model = await speaking()
    const args = ['generate', model, '--prompt', 'Hear the cat', '--max-tokens', '8', '--temperature', '1']
    const one = await ok(...args, '--seed', '1')
    expect(await ok(...args, '--seed', '1')).toBe(one)
    expect(await ok(...args, '--seed', '2')).not.toBe(one)
    const said = JSON.parse(await ok(...args, '--seed', '1', '--json')) as { text: string }
    expect(`${said.text}\n`).toBe(one)
    expect(await ok(...args, '--chat')).toMatch(/\n$/)
  })
})

describe('fold', () => {
  it('scores as the adapter does, and is a folder like the one it came from', async () => {
    const { ids, logits } = await reference(adapter)
    const out = join(await temporary(), 'new/folded')
    const said = JSON.parse(await ok('fold', llama3, '--adapter', adapter, '--out', out, '--json')) as Record<
      string,
      unknown
    >
    expect(said).toEqual({ out, files: ['model.safetensors', 'config.json', 'generation_config.json'] })
    expect(greatest(await logitsOf(out, ids), logits)).toBeLessThan(1e-4)
    const [before, after] = await Promise.all([llama3, out].map((f) => tensors(join(f, 'model.safetensors'))))
    expect(after!.names).toEqual(before!.names)
    const half = join(out, '../half')
    await ok('fold', llama3, '--adapter', adapter, '--out', half, '--dtype', 'BF16')
    expect((await tensors(join(half, 'model.safetensors'))).entry('model.norm.weight').dtype).toBe('BF16')
    const far = greatest(await logitsOf(half, ids), logits)
    expect(far).toBeGreaterThan(1e-4)
    expect(far).toBeLessThan(1)
  })
})

describe('quantize', () => {
  it.each([
    ['nf4-dq', 4, 6],
    ['nf4', 4.49, 5],
    ['int8', 8, 9],
  ] as const)('%s: fewer bits, and a model that still runs', async (codec, least, most) => {
    const { ids, logits } = await reference(llama3)
    const out = join(await temporary(), codec)
    const said = JSON.parse(await ok('quantize', llama3, out, '--codec', codec, '--json')) as Record<string, number>
    expect(Object.keys(said)).toEqual([
      ...['out', 'codec', 'layout', 'matrices', 'bits_per_weight'],
      ...['bytes_before', 'bytes_after', 'seconds', 'files'],
    ])
    expect(said['matrices']).toBe(14)
    expect(said['bits_per_weight']).toBeGreaterThan(least)
    expect(said['bits_per_weight']).toBeLessThan(most)
    expect(said['bytes_after']).toBeLessThan(said['bytes_before']! / 2)
    const found = await logitsOf(out, ids)
    const error = rms(found.map((z, i) => z - logits[i]!)) / rms(logits)
    expect(error).toBeGreaterThan(1e-3)
    expect(error).toBeLessThan(codec === 'int8' ? 0.05 : 0.5)
    const { code, out: text } = await weft(['inspect', out, '--json'])
    expect(code).toBe(0)
    const report = JSON.parse(text) as {
      bytes: number
      supported: unknown
      dtypes: Record<string, number>
      config: { quantization_config: unknown }
    }
    const dense = JSON.parse((await weft(['inspect', llama3, '--json'])).out) as { bytes: number }
    expect(report.supported).toBe(true)
    expect(report.bytes).toBeLessThan(dense.bytes / 2)
    expect(report.dtypes[codec === 'int8' ? 'I8' : 'U8']).toBeGreaterThan(0)
    expect(report.config.quantization_config).toMatchObject({ quant_method: 'bitsandbytes' })
    // what is packed already is not packed again
    const before = await contents(out)
    const again = await weft(['quantize', out, join(out, '../again'), '--codec', codec, ...cpu])
    expect(again).toMatchObject({ code: 1, err: expect.stringContaining('already; quantize the dense network') })
    expect(await contents(out)).toEqual(before)
  })
})

describe('inspect', () => {
  it('tells models, adapters and files apart', async () => {
    const report = async (path: string): Promise<Record<string, unknown>> => {
      const { code, out, err } = await weft(['inspect', path, '--json'])
      expect({ code, err }).toEqual({ code: 0, err: '' })
      return JSON.parse(out) as Record<string, unknown>
    }
    const model = await report(llama3)
    expect(Object.keys(model)).toEqual([
      'kind',
      'name',
      'config',
      'supported',
      'parameters',
      'bytes',
      'dtypes',
      'metadata',
      'tensors',
    ])
    expect(model).toMatchObject({ kind: 'model', supported: true, config: { model_type: 'llama' } })
    expect(model['bytes']).toBe(4 * (model['parameters'] as number))
    expect(await report(adapter)).toMatchObject({ kind: 'adapter', config: { peft_type: 'LORA' } })
    const file = await report(join(adapter, 'adapter_model.safetensors'))
    expect(file).toMatchObject({ kind: 'checkpoint', dtypes: { F32: 8 } })
    expect((file['tensors'] as object[])[0]).toMatchObject({
      dtype: 'F32',
      shape: expect.any(Array),
      bytes: expect.any(Number),
    })
    const sharded = await report(join(fixtures, 'models/llama-sharded-bf16'))
    expect(sharded).toMatchObject({
      kind: 'model',
      parameters: model['parameters'],
      bytes: (model['bytes'] as number) / 2,
    })
    expect(await report(join(fixtures, 'models/llama-sharded-bf16/model.safetensors.index.json'))).toEqual(sharded)
  })

  it('prints a line for each tensor, and what Weft cannot run', async () => {
    const { out } = await weft(['inspect', llama3])
    expect(out).toMatch(/^model .*: \d+ tensors, [\d,]+ values, [\d.]+ kB\n/)
    expect(out).toMatch(/\n {2}model\.norm\.weight +F32 +\[48\]\n/)
    const odd = await temporary()
    await writeFile(
      join(odd, 'config.json'),
      JSON.stringify({ model_type: 'mamba', architectures: ['MambaForCausalLM'] }),
    )
    await writeFile(join(odd, 'model.safetensors'), await readFile(join(llama3, 'model.safetensors')))
    expect((await weft(['inspect', odd])).out).toMatch(/Weft cannot run it: .*mamba.*llama/i)
  })
})
