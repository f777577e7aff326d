import type { Rng, Tensor, Tensor1D, Tensor2D, Tensor3D, Weight } from '@weftjs/spec'
import { abs, add, cpu, mul, rng, slice, tensor2d } from '@weftjs/tensor'
import { factories, testWeight, toyCodec, type WeightSuite } from '@weftjs/testkit'
import { expect, it } from 'vitest'
import {
  blockDiagonal,
  compose,
  dense,
  hypercomplex,
  kron,
  lowRank,
  made,
  mapped,
  packed,
  scale,
  scaleColumns,
  scaleRows,
  scatter,
  slices,
  sum,
} from '../src/index.ts'

await cpu()
const matrix = (rng: Rng, out = 5, n = 4): Tensor2D => rng.normal([out, n]) as Tensor2D
const plain = (rng: Rng, out = 5, n = 4): Weight => dense(matrix(rng, out, n))
const low = (rng: Rng, out = 5, n = 4): Weight => lowRank(matrix(rng, out, 2), matrix(rng, 2, n))
const places = (): Tensor => tensor2d([0, 0, 3, 4, 1, 3, 0, 2], [2, 4], 'int32')
const few = (rng: Rng): Weight => scatter([5, 4], places(), rng.normal([4]) as Tensor1D)
const toy = (rng: Rng): Weight => packed(toyCodec(), matrix(rng))

/** each file of src, alone and with the others */
const WEIGHTS: Readonly<Record<string, Readonly<Record<string, (rng: Rng) => Weight>>>> = {
  dense: { dense: plain },
  'low-rank': { 'low rank': low },
  hypercomplex: {
    'of rank 1': (r) => hypercomplex(r.normal([2, 2, 2]), r.normal([2, 2, 1]), r.normal([2, 1, 3])),
    'of rank 2, three terms': (r) => hypercomplex(r.normal([3, 3, 3]), r.normal([3, 2, 2]), r.normal([3, 2, 1])),
  },
  compose: {
    'two dense': (r) => compose(plain(r, 5, 3), plain(r, 3, 4)),
    'dense and low rank': (r) => compose(plain(r, 5, 3), low(r, 3, 4)),
    'three, one within another': (r) => compose(compose(plain(r, 5, 2), plain(r, 2, 3)), low(r, 3, 4)),
  },
  'block-diagonal': {
    'blocks of their own': (r) => blockDiagonal(r.normal([2, 3, 2]) as Tensor3D),
    'one block for all': (r) => blockDiagonal(r.normal([1, 2, 3]) as Tensor3D, 2),
    'after a dense one': (r) => compose(plain(r, 5, 6), blockDiagonal(r.normal([2, 3, 2]) as Tensor3D)),
  },
  kron: {
    'dense and dense': (r) => kron(plain(r, 3, 2), plain(r, 2, 2)),
    'the second first': (r) => kron(plain(r, 2, 3), plain(r, 4, 2)),
    'the first first': (r) => kron(plain(r, 1, 3), plain(r, 4, 2)),
    'dense and low rank': (r) => kron(plain(r, 3, 2), low(r, 2, 3)),
  },
  made: {
    'a product of two': (r) =>
      made([5, 4], { p: r.normal([5, 4]), q: r.normal([5, 4]) }, ({ p, q }) => mul(p!, q!) as Tensor2D),
    'a product of one that trains apart from it': (r) => {
      const w = r.normal([5, 4])
      return made([5, 4], { p: r.normal([5, 4]), w }, ({ p }) => mul(p!, w) as Tensor2D, { w })
    },
  },
  mapped: {
    'the second half, turned by a vector': (r) => {
      const s = r.normal([2])
      return mapped([2, 4], { s }, (x) =>
        mul(s, slice(x, [...x.shape.slice(0, -1).map(() => 0), 2], [...x.shape.slice(0, -1), 2])),
      )
    },
  },
  packed: { packed: toy },
  scale: {
    'by a number': (r) => scale(-1.5, plain(r)),
    'by a tensor': (r) => scale(r.normal([]), low(r)),
    'twice by tensors': (r) => scale(r.normal([]), scale(r.normal([]), plain(r))),
    rows: (r) => scaleRows(r.normal([5]), plain(r)),
    columns: (r) => scaleColumns(r.normal([4]), low(r)),
    'rows and columns of a sum': (r) => scaleRows(r.normal([5]), scaleColumns(r.normal([4]), sum(plain(r), low(r)))),
    'rows twice': (r) => scaleRows(r.normal([5]), scaleRows(add(abs(r.normal([5])), 1), plain(r))),
  },
  scatter: {
    scatter: few,
    'onto a dense one': (r) => sum(plain(r), few(r)),
    'onto a dense one with a low rank': (r) => sum(plain(r), low(r), few(r), few(r)),
    'onto a packed one': (r) => sum(toy(r), few(r)),
    scaled: (r) => scale(0.5, few(r)),
  },
  slices: {
    rows: (r) => slices([5, 4], 'rows', 1, matrix(r, 2, 4)),
    'the last columns': (r) => slices([5, 4], 'columns', 3, matrix(r, 5, 1)),
    'onto a dense one': (r) => sum(plain(r), slices([5, 4], 'columns', 0, matrix(r, 5, 2))),
  },
  sum: {
    'dense and low rank': (r) => sum(plain(r), scale(0.5, low(r))),
    'packed and low rank': (r) => sum(toy(r), low(r)),
    three: (r) => sum(plain(r), low(r), scale(2, low(r))),
  },
}

const files = import.meta.glob('../src/*.ts', { eager: true })
it('every file is here', () => {
  expect(Object.keys(WEIGHTS).sort()).toEqual(
    factories(files, ['known', 'names', 'tensors-of'])
      .map((f) => f.name)
      .sort(),
  )
})

for (const [file, cases] of Object.entries(WEIGHTS))
  for (const [name, make] of Object.entries(cases)) {
    const lossy = make === toy || /packed/.test(name)
    const floats = Object.entries(make(rng(0)).parts).flatMap(([n, t]) => (t.dtype === 'float32' ? [n] : []))
    const frozen = name === 'packed' ? floats : ['0.q', '0.scale'] // parts of a codec
    const options: WeightSuite = {
      ...(lossy && { likeTolerance: 1e-2 }),
      trains: lossy ? floats.filter((n) => !frozen.includes(n)) : floats,
    }
    testWeight(`${file}: ${name}`, make, options)
  }

it('shapes that do not fit are refused', () => {
  expect(() => compose(dense({ shape: [2, 3] } as Tensor2D), dense({ shape: [2, 3] } as Tensor2D))).toThrow(
    'compose: [2,3] cannot follow [2,3]',
  )
})

it('a block that is not one cannot stand for several', () => {
  expect(() => blockDiagonal(rng(0).normal([2, 3, 3]) as Tensor3D, 4)).toThrow('2 blocks cannot stand 4 times')
})

it('the Kronecker product is laid out as numpy and torch do', async () => {
  const w = kron(dense(tensor2d([1, 2, 3, 4], [2, 2])), dense(tensor2d([0, 5, 6, 7], [2, 2])))
  expect([...(await w.dense().data())]).toEqual([0, 5, 0, 10, 6, 7, 12, 14, 0, 15, 0, 20, 18, 21, 24, 28])
})

it('a scale of a scale keeps every tensor among its parts', () => {
  const r = rng(0)
  const w = scaleRows(r.normal([5]), scaleRows(r.normal([5]), scale(r.normal([]), scale(r.normal([]), plain(r)))))
  expect(new Set(Object.values(w.parts)).size).toBe(5)
})
