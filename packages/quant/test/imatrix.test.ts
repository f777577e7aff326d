import type { Seen, Tensor2D } from '@weftjs/spec'
import { cpu, rng, tensor, tensor1d } from '@weftjs/tensor'
import { blobSink, fromBytes } from '@weftjs/tensor/checkpoint'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { ggufFamilies } from '../src/gguf/families.ts'
import { ggufImportance, readImatrix } from '../src/gguf/imatrix.ts'
import { typeIn } from '../src/gguf/mix.ts'
import { ggufModel } from '../src/gguf/model.ts'
import { type GgufFile, writeGguf } from '../src/gguf/writer.ts'
import { gguf } from '../src/gguf.ts'
import { bytes } from './fixtures.ts'

beforeAll(async () => {
  await cpu()
})

const floats = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer)
const ints = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer)
const joined = (...parts: (Uint8Array | string)[]): Uint8Array =>
  new Uint8Array(Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(p) : p))))
const legacy = (): Uint8Array =>
  joined(
    ...[ints(2), ints(12), 'blk.0.attn_q', ints(4, 3), floats(4, 8, 0)],
    ...[ints(1), 'b', ints(0, 2), floats(0.5, 1.5)],
    // of newer versions: the last chunk, and a data set's name
    ...[ints(7, 3), 'abc'],
  )
const file = async (tensors: GgufFile['tensors']): Promise<Uint8Array> => {
  const sink = blobSink()
  await writeGguf(sink, { metadata: new Map([['general.type', { type: 'string', value: 'imatrix' }]]), tensors })
  return new Uint8Array(await sink.blob().arrayBuffer())
}

describe("llama.cpp's importance matrix", () => {
  it('is read in the older form: sums over calls', async () => {
    const found = await readImatrix(fromBytes(legacy(), 'x.dat'))
    expect(Object.keys(found)).toEqual(['blk.0.attn_q', 'b'])
    expect([...found['blk.0.attn_q']!]).toEqual([1, 2, 0])
    expect([...found['b']!]).toEqual([0.5, 1.5])
  })
  it('is read as GGUF: sums over counts, of experts too', async () => {
    const found = await readImatrix(
      fromBytes(
        await file([
          { name: 'a.weight.in_sum2', type: 'F32', shape: [1, 3], data: floats(2, 4, 6) },
          { name: 'a.weight.counts', type: 'F32', shape: [1, 1], data: floats(2) },
          { name: 'e.weight.in_sum2', type: 'F32', shape: [2, 2], data: floats(3, 6, 8, 9) },
          { name: 'e.weight.counts', type: 'F32', shape: [2, 1], data: floats(3, 0) },
        ]),
        'x.gguf',
      ),
    )
    expect(Object.entries(found).map(([name, v]) => [name, [...v]])).toEqual([
      ['a.weight', [1, 2, 3]],
      ['e.weight', [1, 2, 1, 1]],
    ])
  })
  it('of another kind, or damaged, is refused', async () => {
    const other = await file([{ name: 'a.weight', type: 'F32', shape: [3], data: floats(2, 4, 6) }])
    await expect(readImatrix(fromBytes(other, 'x.gguf'))).rejects.toThrow(/x.gguf: has no sums of an importance matrix/)
    const lone = await file([{ name: 'a.in_sum2', type: 'F32', shape: [1, 3], data: floats(2, 4, 6) }])
    await expect(readImatrix(fromBytes(lone, 'x.gguf'))).rejects.toThrow(
      /tensor "a.in_sum2": is F32 \[1,3\] with counts missing/,
    )
    await expect(readImatrix(fromBytes(ints(0), 'x.dat'))).rejects.toThrow(/x.dat: has no matrices/)
    const whole = legacy()
    for (let size = 0; size < whole.length - 11; size++)
      await expect(readImatrix(fromBytes(whole.slice(0, size), 'x.dat')), `${size}`).rejects.toThrow(
        /this is no import/,
      )
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, value) => {
        const damaged = whole.slice()
        damaged[at] = value
        await readImatrix(fromBytes(damaged, 'x.dat')).catch((e: Error) => expect(e.message).toMatch(/^x.dat: /))
      }),
      { numRuns: 200, seed: 1 },
    )
  })
})

const config = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 16,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 64,
}
const shapes: Record<string, number[]> = {
  'model.embed_tokens.weight': [16, 64],
  'model.norm.weight': [64],
  'lm_head.weight': [16, 64],
  ...Object.fromEntries(
    Object.entries({
      'self_attn.q_proj': [64, 64],
      'self_attn.k_proj': [32, 64],
      'self_attn.v_proj': [32, 64],
      'self_attn.o_proj': [64, 64],
      'mlp.gate_proj': [32, 64],
      'mlp.up_proj': [32, 64],
      'mlp.down_proj': [64, 32],
      input_layernorm: [64],
      post_attention_layernorm: [64],
    }).map(([n, shape]) => [`model.layers.0.${n}.weight`, shape]),
  ),
}
const values = Object.fromEntries(
  Object.entries(shapes).map(([name, shape], i) => [
    name,
    Float32Array.from(rng(i).numbers(shape[0]! * (shape[1] ?? 1))),
  ]),
)
const tensors = Object.entries(shapes).map(([name, shape]) => ({
  ...{ name, dtype: 'F32' as const, shape },
  data: new Uint8Array(values[name]!.buffer),
}))

describe('a mix with importance', () => {
  const columns = Float32Array.from(rng(50).numbers(64), (v) => 5 * v * v)
  const seen = (square: Float32Array): Seen => ({ rows: 1, batches: 1, get: () => tensor1d(square) })

  it('has matrices as the codec makes them by it, and others as without', async () => {
    const importance = await ggufImportance(
      { 'blocks.0.attn.v': seen(columns), 'blocks.0.attn.q': seen(columns) },
      [
        { hf: 'model.layers.0.self_attn.v_proj.weight', name: 'blocks.0.attn.v' },
        { hf: 'model.layers.0.self_attn.q_proj.weight', name: 'blocks.0.attn.q' },
        { hf: 'model.layers.0.self_attn.k_proj.weight', name: 'blocks.0.attn.k' },
      ],
      config,
    )
    expect(Object.keys(importance)).toEqual(['blk.0.attn_v.weight', 'blk.0.attn_q.weight'])
    const made = ggufModel({ config, tensors, mix: 'Q4_0', importance })
    const found = async (name: string): Promise<Uint8Array> => {
      const { data } = made.tensors.find((t) => t.name === name)!
      const parts: Uint8Array[] = []
      const given = typeof data === 'function' ? await data() : data
      for await (const part of given instanceof Uint8Array ? [given] : given) parts.push(part.slice())
      return joined(...parts)
    }
    const want = (hf: string, with_: Seen | undefined): Uint8Array => {
      const w = tensor(values[hf]!, shapes[hf] as [number, number]) as Tensor2D
      return bytes(gguf({ type: 'Q4_0', importance: with_ !== undefined }).encode(w, with_).q, (w.size / 32) * 18)
    }
    const v = 'model.layers.0.self_attn.v_proj.weight'
    expect(await found('blk.0.attn_v.weight')).toEqual(want(v, seen(columns)))
    expect(want(v, seen(columns))).not.toEqual(want(v, undefined))
    const up = 'model.layers.0.mlp.up_proj.weight'
    expect(await found('blk.0.ffn_up.weight')).toEqual(want(up, undefined))
  })

  it('takes types as llama.cpp does with an importance matrix', () => {
    const c = { family: ggufFamilies[0]!, layers: 32, heads: 32, kvHeads: 32, headWidth: 128, tied: false }
    const at = (mix: 'Q4_0' | 'Q5_0' | 'IQ4_NL' | 'Q4_K_S', i: number, importance: boolean): string =>
      typeIn(mix, `blk.${i}.ffn_down.weight`, [4096, 4096], { ...c, importance })
    expect([at('Q4_0', 3, true), at('Q4_0', 4, true), at('Q4_0', 3, false)]).toEqual(['Q4_1', 'Q4_0', 'Q4_0'])
    expect([at('Q5_0', 3, true), at('IQ4_NL', 3, true), at('IQ4_NL', 3, false)]).toEqual(['Q5_1', 'IQ4_NL', 'Q5_K'])
    expect(at('Q4_K_S', 3, true)).toBe('Q5_K')
  })

  it('of other columns, or of what is no number, is refused by its tensor', () => {
    const model = (importance: Record<string, Float32Array>): unknown => ggufModel({ config, tensors, importance })
    expect(() => model({ 'blk.0.attn_v.weight': new Float32Array(3) })).toThrow(
      /blk.0.attn_v.weight: the importance is of 3 columns, and the matrix has 64/,
    )
    expect(() => model({ 'blk.0.attn_v.weight': new Float32Array(64).fill(Number.NaN, 5, 6) })).toThrow(
      /importance of column 5 is NaN/,
    )
  })
})
