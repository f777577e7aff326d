import { describe, expect, it } from 'vitest'
import { ggufFamilies } from '../src/gguf/families.ts'
import { fileTypeOf, ggufMix, ggufMixes, typeIn } from '../src/gguf/mix.ts'

const llama = ggufFamilies[0]!
const model = (layers: number, heads = 32, kvHeads = 8) => ({
  family: llama,
  layers,
  heads,
  kvHeads,
  headWidth: 128,
  tied: false,
})
/** types of a tensor of each layer, by the first letters of its mix */
const down = (mix: 'Q4_K_M', layers: number, part: string, c = model(layers)): string[] =>
  Array.from({ length: layers }, (_, i) => typeIn(mix, `blk.${i}.${part}.weight`, [4096, 4096], c))

describe('the mixes of llama.cpp', () => {
  // Llama 3.1 8B in Q4_K_M, as published files of it list their tensors: 32 layers, 4 query heads to each of 8
  it('give Q4_K_M more bits in the layers that published files do', () => {
    const more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for (const part of ['attn_v', 'ffn_down'])
      expect(
        down('Q4_K_M', 32, part).flatMap((t, i) => (t === 'Q6_K' ? [i] : [])),
        part,
      ).toEqual(more)
    for (const part of ['attn_q', 'attn_k', 'attn_output', 'ffn_gate', 'ffn_up'])
      expect(new Set(down('Q4_K_M', 32, part)), part).toEqual(new Set(['Q4_K']))
  })

  it.each([
    ['Q2_K', { attn_v: 'Q4_K', ffn_down: 'Q3_K', attn_output: 'Q3_K', attn_q: 'Q2_K' }],
    ['Q3_K_S', { attn_v: 'Q3_K', ffn_down: 'Q3_K', attn_output: 'Q3_K', attn_q: 'Q3_K' }],
    ['Q3_K_M', { attn_v: 'Q4_K', ffn_down: 'Q4_K', attn_output: 'Q4_K', attn_q: 'Q3_K' }],
    ['Q3_K_L', { attn_v: 'Q5_K', ffn_down: 'Q5_K', attn_output: 'Q5_K', attn_q: 'Q3_K' }],
    ['Q4_K_S', { attn_v: 'Q4_K', ffn_down: 'Q4_K', attn_output: 'Q4_K', attn_q: 'Q4_K' }],
    ['Q5_K_M', { attn_v: 'Q5_K', ffn_down: 'Q5_K', attn_output: 'Q5_K', attn_q: 'Q5_K' }],
    ['Q6_K', { attn_v: 'Q6_K', ffn_down: 'Q6_K', attn_output: 'Q6_K', attn_q: 'Q6_K' }],
    ['Q8_0', { attn_v: 'Q8_0', ffn_down: 'Q8_0', attn_output: 'Q8_0', attn_q: 'Q8_0' }],
  ] as const)('%s in a middle layer', (mix, types) => {
    for (const [part, type] of Object.entries(types))
      expect(typeIn(mix, `blk.10.${part}.weight`, [4096, 4096], model(32)), part).toBe(type)
  })

  it('give the first layers more in the small mixes', () => {
    const at = (mix: 'Q4_K_S', i: number, part: string): string =>
      typeIn(mix, `blk.${i}.${part}.weight`, [4096, 4096], model(32))
    expect([at('Q4_K_S', 3, 'attn_v'), at('Q4_K_S', 4, 'attn_v')]).toEqual(['Q5_K', 'Q4_K'])
    expect([at('Q4_K_S', 3, 'ffn_down'), at('Q4_K_S', 4, 'ffn_down')]).toEqual(['Q5_K', 'Q4_K'])
    expect(typeIn('Q3_K_M', 'blk.1.attn_v.weight', [1024, 4096], model(32))).toBe('Q5_K')
    expect(typeIn('Q3_K_M', 'blk.1.ffn_down.weight', [1024, 4096], model(32))).toBe('Q5_K')
    expect(typeIn('Q2_K', 'blk.9.attn_v.weight', [1024, 4096], model(32, 32, 32))).toBe('Q3_K')
  })

  it('keep vectors and norms in float32, and the output in 6 bits or 8', () => {
    const c = model(32)
    expect(typeIn('Q4_K_M', 'blk.0.attn_norm.weight', [4096], c)).toBe('F32')
    expect(typeIn('F16', 'blk.0.attn_q.bias', [4096], c)).toBe('F32')
    expect(typeIn('F16', 'blk.0.attn_q.weight', [4096, 4096], c)).toBe('F16')
    expect(typeIn('Q4_0', 'output.weight', [32_000, 4096], c)).toBe('Q6_K')
    expect(typeIn('Q8_0', 'output.weight', [32_000, 4096], c)).toBe('Q8_0')
    expect(typeIn('Q4_K_M', 'token_embd.weight', [32_000, 4096], c)).toBe('Q4_K')
    expect(typeIn('Q4_K_M', 'token_embd.weight', [32_000, 4096], { ...c, tied: true })).toBe('Q6_K')
  })

  it('take a type of smaller blocks where a row is no whole number of them', () => {
    const c = model(32)
    const at = (mix: 'Q4_K_M' | 'Q2_K' | 'Q6_K' | 'Q5_K_S', width: number): string =>
      typeIn(mix, 'blk.10.attn_q.weight', [64, width], c)
    expect([at('Q2_K', 640), at('Q4_K_M', 640), at('Q5_K_S', 640), at('Q6_K', 640)]).toEqual([
      'Q4_0',
      'Q5_0',
      'Q5_1',
      'Q8_0',
    ])
    expect(at('Q4_K_M', 48)).toBe('F16')
    expect(typeIn('Q4_K_M', 'output.weight', [64, 640], c)).toBe('Q8_0')
    expect(typeIn('Q4_0', 'output.weight', [64, 96], c)).toBe('Q8_0')
  })

  it('have the numbers that gguf.LlamaFileType gives them', () => {
    const numbers = {
      F32: 0,
      F16: 1,
      Q4_0: 2,
      Q4_1: 3,
      Q8_0: 7,
      Q5_0: 8,
      Q5_1: 9,
      Q2_K: 10,
      Q3_K_S: 11,
      Q3_K_M: 12,
      Q3_K_L: 13,
      Q4_K_S: 14,
      Q4_K_M: 15,
      Q5_K_S: 16,
      Q5_K_M: 17,
      Q6_K: 18,
      Q2_K_S: 21,
      IQ4_NL: 25,
      BF16: 32,
    }
    expect(Object.fromEntries(ggufMixes.map((m) => [m, fileTypeOf(m)]))).toEqual(numbers)
    expect(ggufMix('q4_k')).toBe('Q4_K_M')
  })
})
