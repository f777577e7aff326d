import { attach } from '@weftjs/model'
import { rng, type Tensor3D, tensor3d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { c3a } from '../src/c3a.ts'
import { circulant } from '../src/shared/circulant.ts'
import { apart, network, one, plus, rowsOf } from './one.ts'

describe('circulant', () => {
  it('each row is the one above it moved right by one: by hand', () => {
    const w = tensor3d([[[1, 2, 3]], [[4, 5, 6]]])
    expect(rowsOf(circulant(w).dense())).toEqual([
      [1, 2, 3],
      [3, 1, 2],
      [2, 3, 1],
      [4, 5, 6],
      [6, 4, 5],
      [5, 6, 4],
    ])
    expect(rowsOf(circulant(tensor3d([[[7], [8]]])).dense())).toEqual([[7, 8]])
  })

  it('is the convolution by Fourier transforms: FFT(FFT⁻¹(x)·FFT(w)), summed by a slow one', async () => {
    const [n, b] = [2, 5]
    const w = rng(1).normal([1, n, b]) as Tensor3D
    const x = rng(2).normal([1, n * b])
    const [ws, xs] = [w.dataSync(), x.dataSync()]
    const found = circulant(w).apply(x).dataSync()
    for (let k = 0; k < b; k++) {
      let want = 0
      for (let f = 0; f < b; f++)
        for (let j = 0; j < n; j++) {
          let [xr, xi, wr, wi] = [0, 0, 0, 0]
          for (let t = 0; t < b; t++) {
            const turn = (2 * Math.PI * f * t) / b
            xr += (xs[j * b + t]! * Math.cos(turn)) / b
            xi += (xs[j * b + t]! * Math.sin(turn)) / b
            wr += ws[j * b + t]! * Math.cos(turn)
            wi -= ws[j * b + t]! * Math.sin(turn)
          }
          const turn = (2 * Math.PI * f * k) / b
          want += (xr * wr - xi * wi) * Math.cos(turn) + (xr * wi + xi * wr) * Math.sin(turn)
        }
      expect(found[k]).toBeCloseTo(want, 5)
    }
  })
})

describe('c3a', () => {
  it('adds D/in, with out·in/b numbers', () => {
    const { w, after, params } = one(c3a({ block: 8 }))
    const kernel = params['blocks.0.mlp.up.c3a.w'] as Tensor3D
    expect(kernel.shape).toEqual([3, 2, 8])
    expect(apart(after, plus(w, rowsOf(circulant(kernel).dense()), 1 / 16))).toBeLessThan(1e-6)
  })

  it('refuses a block that does not divide', () => {
    expect(() => attach(network, [{ adapter: c3a({ block: 16 }), at: 'blocks.0.mlp.up' }], rng(1))).toThrow(
      'blocks.0.mlp.up: block 16 does not divide 24 and 16',
    )
    expect(() => attach(network, [{ adapter: c3a({ block: 0.5 }), at: 'blocks.0.mlp.up' }], rng(1))).toThrow(
      'a whole number',
    )
  })
})
