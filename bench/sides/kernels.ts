/** Kernels alone, at the shapes of the models: what each computes and moves, and a call of it. */
import { nf4 } from '@weftjs/quant'
import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { attention, crossEntropy, gradients, linear, matMul, rmsNorm, tensor, tidy } from '@weftjs/tensor'
import { packed } from '@weftjs/weight'
import { SMOL, valuesOf } from './shape.ts'

/** A call to be timed. */
export interface Case {
  readonly name: string
  /** makes the inputs; → the call, whose result is disposed by whoever times it */
  make(plain: boolean): () => Tensor | Tensor[]
  /** `make` itself knows the plain way; otherwise it is the reference of every kernel that the call reaches */
  readonly ownPlain?: boolean
  /** multiplications and additions of a call */
  readonly flop?: number
  /** bytes that a call must read and write at the least */
  readonly bytes?: number
}
/** `software`: sizes that an adapter in software can do, in place of the models' own */
type Cases = (software: boolean) => readonly Case[]

let count = 0
const made = (...shape: number[]): Tensor =>
  tensor(valuesOf(`kernel.${count++}`, shape.length > 1 ? shape : [1, ...shape]), shape)
/** value and gradients, as a step needs them */
const both = (f: () => Tensor, xs: Tensor[], dy?: Tensor): Tensor[] => {
  const { value, grads } = gradients(f, xs, dy)
  return [value, ...grads.filter((g) => g !== null)]
}

const [D, F] = [SMOL.width, SMOL.hidden]

/** the three forms of forward and backward, and the shapes that are not square at all */
const gemm: Cases = (software) => {
  const m = software ? 64 : 256
  const V = software ? 4096 : SMOL.vocabulary
  const product = (name: string, rows: number, inner: number, columns: number, make: Case['make']): Case => ({
    ...{ name: `${name}, ${rows}x${inner}x${columns}`, make, flop: 2 * rows * inner * columns },
  })
  const forward = (name: string, rows: number, inner: number, columns: number): Case =>
    product(name, rows, inner, columns, () => {
      const [x, w] = [made(rows, inner), made(columns, inner)]
      return () => linear(x, w)
    })
  // these wait for memory, not for arithmetic
  const skinny = (name: string, rows: number, inner: number, columns: number): Case => {
    const { flop: _, ...rest } = forward(name, rows, inner, columns)
    return { ...rest, bytes: 4 * (rows * inner + inner * columns + rows * columns) }
  }
  return [
    forward('x·Wᵀ', m, D, F),
    product('dy·W', m, F, D, () => {
      const [dy, w] = [made(m, F), made(F, D)]
      return () => matMul(dy, w)
    }),
    product('dyᵀ·x', F, m, D, () => {
      const [dy, x] = [made(m, F), made(m, D)]
      return () => matMul(dy, x, true)
    }),
    forward('head', m, D, V),
    skinny('rank 8', m, D, 8),
    skinny('one row', 1, D, V),
  ]
}

/** causal, grouped queries; 2 products forward and 5 backward (one again), of which the mask leaves half */
const causal: Cases = (software) =>
  (software ? [32, 128] : [256, 1024]).map((T) => ({
    name: `T=${T}, forward and backward`,
    make: () => {
      const [H, G, S] = [SMOL.heads, SMOL.kvHeads, D / SMOL.heads]
      const [q, k, v, dy] = [made(1, H, T, S), made(1, G, T, S), made(1, G, T, S), made(1, H, T, S)]
      return () => both(() => attention(q, k, v, undefined, { causal: true }), [q, k, v], dy)
    },
    flop: 7 * T * T * D,
  }))

const ce: Cases = (software) => {
  const [N, V] = software ? [32, 4096] : [256, SMOL.vocabulary]
  const make = (slope: boolean) => () => {
    const [hidden, head] = [made(N, D), made(V, D)]
    const targets = tensor(
      Int32Array.from({ length: N }, (_, i) => (i * 7919) % V),
      [N],
      'int32',
    )
    const weights = tensor(new Float32Array(N).fill(1 / N), [N])
    const loss = (): Tensor => crossEntropy(hidden, head, targets, weights)
    return slope ? () => both(loss, [hidden]) : loss
  }
  return [
    { name: `loss alone, ${N}x${D}x${V}`, make: make(false), flop: 2 * N * D * V },
    { name: `loss and gradient, ${N}x${D}x${V}`, make: make(true), flop: 4 * N * D * V },
  ]
}

const rmsnorm: Cases = (software) => {
  const N = software ? 256 : 1024
  const make = (slope: boolean) => () => {
    const [x, scale, dy] = [made(N, D), made(D), made(N, D)]
    return slope ? () => both(() => rmsNorm(x, scale), [x], dy) : () => rmsNorm(x, scale)
  }
  return [
    { name: `forward, ${N}x${D}`, make: make(false), bytes: 8 * N * D },
    { name: `forward and backward, ${N}x${D}`, make: make(true), bytes: 20 * N * D },
  ]
}

/** NF4 with double quantization, as `qlora-step` has it; the plain way decodes the matrix first, and multiplies by it */
const dequant: Cases = (software) => {
  const weight = (): Weight => packed(nf4({ double: true }), made(F, D) as Tensor2D)
  const apply = (w: Weight, x: Tensor, plain: boolean): Tensor => (plain ? linear(x, w.dense()) : w.apply(x))
  const rows = software ? [1, 32] : [1, 16, 256]
  const most = rows.at(-1)!
  return [
    ...rows.map((m) => ({
      name: `x·Wᵀ, ${m}x${D}x${F}`,
      ownPlain: true,
      make: (plain: boolean) => {
        const [w, x] = [weight(), made(m, D)]
        return () => tidy(() => apply(w, x, plain))
      },
      // a single row waits for the codes to come from memory
      ...(m === 1 ? { bytes: (4.127 / 8) * D * F } : { flop: 2 * m * D * F }),
    })),
    {
      name: `x·Wᵀ and dy·W, ${most}x${D}x${F}`,
      ownPlain: true,
      make: (plain: boolean) => {
        const [w, x, dy] = [weight(), made(most, D), made(most, F)]
        return () => both(() => apply(w, x, plain), [x], dy)
      },
      flop: 4 * most * D * F,
    },
  ]
}

export const kernelCases: Readonly<Record<string, Cases>> = {
  gemm,
  attention: causal,
  ce,
  rmsnorm,
  'dequant-matmul': dequant,
}
