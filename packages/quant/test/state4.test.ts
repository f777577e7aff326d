import { abs, cpu, rng, type Tensor, type Tensor2D, tensor2d, wasm } from '@weftjs/tensor'
import { beforeAll, describe, expect, it } from 'vitest'
import { DYNAMIC_UNSIGNED } from '../src/dynamic8.ts'
import { bitsPerWeight, dynamic8, state4 } from '../src/index.ts'
import { DYNAMIC4, LINEAR4 } from '../src/state4.ts'
import { bytes, fixture } from './fixtures.ts'

const numbers = (t: Tensor): number[] => [...t.dataSync()]

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('states on %s', (_, backend) => {
  beforeAll(async () => void (await backend()))

  it('the maps are those of the Python libraries, bit by bit', async () => {
    const eight = await fixture('dynamic8-256')
    expect(DYNAMIC_UNSIGNED.levels).toEqual(await eight.floats('dynamic_map_unsigned'))
    const four = await fixture('states')
    expect(DYNAMIC4.levels).toEqual(await four.floats('dynamic4'))
    expect(LINEAR4.levels).toEqual(await four.floats('linear4'))
  })

  it('a second moment in 4 bits is never 0 where its block is not, and a block of zeros is zeros', () => {
    const codec = state4({ signed: false, block: 4 })
    const w = tensor2d([
      [0, 1e-9, 0.5, 1],
      [0, 0, 0, 0],
    ])
    const parts = codec.encode(w)
    expect([...bytes(parts.q, 4)]).toEqual([0x00, 0x7f, 0x00, 0x00])
    expect(numbers(codec.decode(parts, [2, 4]))).toEqual([1 / 16, 1 / 16, 0.5, 1, 0, 0, 0, 0])
  })

  it('by rows and columns, an outlier takes nothing from the rest', () => {
    const codec = state4({ signed: false, scale: 'rank1' })
    const w = tensor2d([
      [1000, 1, 2],
      [3, 0.25, 0.5],
      [2, 1, 2],
    ])
    const parts = codec.encode(w)
    expect(numbers(parts.absmax)).toEqual([1000, 3, 2, 1000, 1, 2])
    // scales min(row, column): [1000 1 2] [3 1 2] [2 1 2]
    expect(numbers(codec.decode(parts, [3, 3]))).toEqual([1000, 1, 2, 3, 0.25, 0.5, 2, 1, 2])
    const blocks = state4({ signed: false, block: 9 })
    expect(numbers(blocks.decode(blocks.encode(w), [3, 3]))[1]).toBe(62.5)
  })

  it('an unsigned 8-bit state has twice the levels, and no sign', () => {
    const w = abs(rng(3).normal([8, 256])) as Tensor2D
    const error = (signed: boolean): number => {
      const codec = dynamic8({ signed })
      const got = codec.decode(codec.encode(w), w.shape).dataSync() as Float32Array
      const want = w.dataSync()
      return Math.sqrt(got.reduce((e, v, i) => e + (v - want[i]!) ** 2, 0) / got.length)
    }
    expect(error(true) / error(false)).toBeGreaterThan(1.8)
    const codec = dynamic8({ signed: false })
    expect(numbers(codec.decode(codec.encode(tensor2d([[0.3, -1, 0]])), [1, 3])).slice(1)).toEqual([0, 0])
    expect(dynamic8().options).toEqual({ block: 256 })
    expect(dynamic8({ signed: false }).options).toEqual({ block: 256, signed: false })
  })

  it('counts its bits', () => {
    expect(bitsPerWeight(state4(), [128, 256])).toBe(4 + 32 / 128)
    expect(bitsPerWeight(state4({ scale: 'rank1' }), [128, 256])).toBe(4 + (32 * (128 + 256)) / (128 * 256))
  })
})

it('refuses what it does not know', () => {
  expect(() => state4({ block: 0.5 })).toThrow('state4: block must be a whole number of at least 1, found 0.5')
  expect(() => state4({ scale: 'row' as 'block' })).toThrow("state4: scale must be 'block' or 'rank1', found \"row\"")
})
