import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, wasm } from '@weftjs/tensor'
import type { Checkpoint } from '@weftjs/tensor/checkpoint'
import { beforeAll, describe, expect, it } from 'vitest'
import { DYNAMIC } from '../src/dynamic8.ts'
import { dynamic8, fp4, int8, nf4 } from '../src/index.ts'
import { bytes, fixture, floats } from './fixtures.ts'

const read = async (file: Checkpoint, name: string): Promise<Uint8Array> => (await file.read(name)).data
const MATRICES = ['normal', 'odd', 'ragged', 'wide']

const four: [string, Codec][] = [
  ['nf4-64', nf4()],
  ['nf4-128', nf4({ block: 128 })],
  ['fp4-64', fp4()],
  ['nf4-64-double', nf4({ double: true })],
  ['nf4-128-double', nf4({ block: 128, double: true })],
]

const exact = new Set(['nf4-64', 'nf4-128'])

/** largest difference, relative to the largest number */
const gap = (got: Tensor, want: Float32Array): number => {
  const values = got.dataSync()
  expect(values.length).toBe(want.length)
  let worst = 0
  let most = 0
  want.forEach((v, i) => {
    worst = Math.max(worst, Math.abs(v - values[i]!))
    most = Math.max(most, Math.abs(v))
  })
  return worst / most
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('on %s, as bitsandbytes', (_, start) => {
  beforeAll(async () => {
    await start()
  })

  it.each(four)('%s: the same codes, scales and values', async (name, codec) => {
    const inputs = await fixture('inputs')
    const want = await fixture(name)
    for (const matrix of MATRICES.filter((m) => want.has(`${m}.codes`))) {
      const w = await floats<Tensor2D>(inputs, matrix)
      const parts = codec.encode(w)
      const codes = await read(want, `${matrix}.codes`)
      expect(bytes(parts['q']!, codes.length), `${matrix} codes`).toEqual(codes)
      const absmax = await read(want, `${matrix}.absmax`)
      expect(bytes(parts['absmax']!, absmax.length), `${matrix} absmax`).toEqual(absmax)
      if (parts['nested']) {
        // torch's mean differs in the last bit
        expect(gap(parts['nested'], await want.floats(`${matrix}.nested_absmax`))).toBeLessThan(1e-6)
        expect(gap(parts['offset']!, await want.floats(`${matrix}.offset`))).toBeLessThan(1e-6)
      }
      const decoded = codec.decode(parts, w.shape)
      expect(decoded.shape).toEqual(w.shape)
      expect(gap(decoded, await want.floats(`${matrix}.decoded`))).toBeLessThan(exact.has(name) ? 1e-30 : 1e-6)
    }
  })

  it('dynamic 8-bit blocks: the same map, codes and values', async () => {
    const inputs = await fixture('inputs')
    const want = await fixture('dynamic8-256')
    const codec = dynamic8()
    for (const matrix of ['normal', 'odd', 'ragged']) {
      const w = await floats<Tensor2D>(inputs, matrix)
      const parts = codec.encode(w)
      expect([...parts.absmax.dataSync()]).toEqual([...(await want.floats(`${matrix}.absmax`))])
      // its search on the CPU is coarse between two levels: where codes differ, ours are nearer
      const codes = await read(want, `${matrix}.codes`)
      const theirs = await want.floats(`${matrix}.decoded`)
      const ours = codec.decode(parts, w.shape).dataSync()
      const exactly = w.dataSync()
      let other = 0
      bytes(parts.q, w.size).forEach((code, i) => {
        if (code === codes[i]) expect(ours[i]).toBe(theirs[i])
        else {
          expect(Math.abs(ours[i]! - exactly[i]!)).toBeLessThanOrEqual(Math.abs(theirs[i]! - exactly[i]!))
          if (Math.abs(exactly[i]!) > 1e-6) other++
        }
      })
      expect(other / w.size).toBeLessThan(0.01)
      expect(DYNAMIC.levels).toEqual(await want.floats('dynamic_map'))
    }
  })

  it('int8 by rows: the same codes, scales and values', async () => {
    const want = await fixture('int8-rows')
    const codec = int8()
    for (const matrix of ['normal', 'odd', 'ragged']) {
      const w = await floats<Tensor2D>(want, `${matrix}.input`)
      const parts = codec.encode(w)
      expect(bytes(parts.q, w.size)).toEqual(await read(want, `${matrix}.codes`))
      expect([...parts.scale.dataSync()]).toEqual([...(await want.floats(`${matrix}.SCB`))])
      expect([...codec.decode(parts, w.shape).dataSync()]).toEqual([...(await want.floats(`${matrix}.decoded`))])
    }
  })
})
