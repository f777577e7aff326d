import type { Rng, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { gradients, linear, mul, rng as newRng, sum, tensor1d, tidy } from '@weftjs/tensor'
import { lookup, rowsOf } from '@weftjs/weight'
import { type Check, leaked, must, mustBeUnchanged, mustEqual, snapshot } from './check.ts'

export interface WeightSuite {
  readonly tolerance?: number
  /** of `like`: how far a lossy format may be from the matrix that it was given, relative to its largest number */
  readonly likeTolerance?: number
  /** names of parts through which gradients flow; all by default */
  readonly trains?: readonly string[]
}

/** The laws of a Weight: what it does to a vector is what its dense matrix does, forward and backward. */
export const checkWeight = (
  make: (rng: Rng) => Weight,
  { tolerance = 1e-5, likeTolerance = tolerance, trains }: WeightSuite = {},
): readonly Check[] => {
  const made = (): Weight => make(newRng(11))
  const inputs = (w: Weight): Tensor[] => {
    const r = newRng(12)
    const n = w.shape[1]
    return [r.normal([3, n]), r.normal([2, 3, n]), r.normal([1, n])]
  }
  /** gradients of Σ y·c in x and in every part */
  const grads = (
    f: (x: Tensor, w: Weight) => Tensor,
    x: Tensor,
  ): { dx: Tensor; parts: Record<string, Tensor | null> } => {
    const w = made()
    const names = trains ?? Object.keys(w.parts)
    const found = gradients(() => {
      const y = f(x, w)
      return sum(mul(y, newRng(13).normal(y.shape)))
    }, [x, ...names.map((n) => w.parts[n]!)]).grads
    return { dx: found[0]!, parts: Object.fromEntries(names.map((n, i) => [n, found[i + 1]!])) }
  }
  return [
    {
      name: 'dense() has the shape [out, in] that it states',
      run: () => {
        const w = made()
        must(w.dense().shape.join() === w.shape.join(), `dense() is [${w.dense().shape}], shape [${w.shape}]`)
      },
    },
    {
      name: 'apply(x) is x·dense()ᵀ for any leading axes',
      run: async () => {
        const w = made()
        for (const x of inputs(w)) await mustEqual(w.apply(x), linear(x, w.dense()), `x [${x.shape}]`, tolerance)
      },
    },
    {
      name: 'the gradient of x is that of the dense matrix',
      run: async () => {
        for (const x of inputs(made())) {
          const a = grads((x, w) => w.apply(x), x)
          const b = grads((x, w) => linear(x, w.dense()), x)
          must(a.dx !== null, 'x gets no gradient')
          await mustEqual(a.dx, b.dx, `gradient of x [${x.shape}]`, 10 * tolerance)
        }
      },
    },
    {
      name: 'gradients of the parts are those through the dense matrix',
      run: async () => {
        const x = inputs(made())[1]!
        const a = grads((x, w) => w.apply(x), x).parts
        const b = grads((x, w) => linear(x, w.dense()), x).parts
        for (const name of Object.keys(a)) {
          must((a[name] === null) === (b[name] === null), `${name}: has a gradient one way and none the other`)
          if (a[name] && b[name]) await mustEqual(a[name], b[name], `gradient of ${name}`, 10 * tolerance)
        }
      },
    },
    {
      name: 'rows are rows of dense(), forward and backward',
      run: async () => {
        const w = made()
        const index = [0, w.shape[0] - 1, 0]
        const at = tensor1d(index, 'int32')
        const select = (m: Tensor2D): Tensor => lookup(m, at)
        await mustEqual(rowsOf(w, at), select(w.dense()), 'rows', tolerance)
        const a = grads((_, w) => rowsOf(w, at), inputs(w)[0]!).parts
        const b = grads((_, w) => select(w.dense()), inputs(w)[0]!).parts
        for (const name of Object.keys(a))
          if (a[name] && b[name]) await mustEqual(a[name], b[name], `gradient of ${name}`, 10 * tolerance)
      },
    },
    {
      name: 'like(m) keeps another matrix, and states its format',
      run: async () => {
        const w = made()
        const m = newRng(14).normal([...w.shape]) as Tensor2D
        const other = w.like(m)
        must(other.shape.join() === w.shape.join(), `like() has shape [${other.shape}], expected [${w.shape}]`)
        await mustEqual(other.dense(), m, 'like(m).dense()', likeTolerance)
      },
    },
    {
      name: 'reading changes no part and leaves no tensor behind',
      run: async () => {
        const w = made()
        must(Object.keys(w.parts).length > 0, 'parts is empty: nothing to save or to count')
        const before = await snapshot(w.parts)
        const [x] = inputs(w)
        const n = leaked(() => {
          w.apply(x!)
          w.dense()
        })
        must(n === 0, `${n} tensors remain after apply and dense`)
        await mustBeUnchanged(w.parts, before, 'parts')
        tidy(() => void w.dense())
        await mustBeUnchanged(w.parts, before, 'parts after a tidy')
      },
    },
  ]
}
