import type { Codec, Params, Tensor, Tensor2D } from '@weftjs/spec'
import {
  bytesOf,
  fill,
  gradients,
  linear,
  mul,
  rng as newRng,
  sum,
  tensor,
  tensor1d,
  tidy,
  zeros,
} from '@weftjs/tensor'
import { lookup, packed } from '@weftjs/weight'
import {
  allFinite,
  type Check,
  distance,
  leaked,
  must,
  mustBeFinite,
  mustBeUnchanged,
  mustEqual,
  snapshot,
} from './check.ts'

export interface CodecSuite {
  /** bits a number may take on [256, 256], scales included */
  readonly bits?: number
  /** largest relative error ‖decode(encode(w)) − w‖/‖w‖ on N(0, 1) */
  readonly error?: number
  readonly tolerance?: number
  /** of decode∘encode done twice; a codec whose scales are themselves packed needs more than the default */
  readonly again?: number
  /** shapes it must take; a codec with blocks is given sides that they do not divide */
  readonly shapes?: readonly (readonly [number, number])[]
}

/** ‖a − s·b‖/‖s·b‖ */
const relative = (a: ArrayLike<number>, b: ArrayLike<number>, s = 1): number => {
  const norm = (f: (i: number) => number): number =>
    Math.sqrt(Array.from(a, (_, i) => f(i) ** 2).reduce((x, y) => x + y, 0))
  return norm((i) => a[i]! - s * b[i]!) / norm((i) => s * b[i]!)
}

/** The laws of a storage format: what comes back is near, stays the same when stored again, and multiplies as it decodes. */
export const checkCodec = (
  codec: Codec,
  {
    bits = 32,
    error = 0.2,
    tolerance = 1e-5,
    again = tolerance,
    shapes = [
      [64, 64],
      [16, 128],
      [5, 7],
      [3, 130],
      [1, 64],
    ],
  }: CodecSuite = {},
): readonly Check[] => {
  const random = ([out, n]: readonly [number, number], seed = 21): Tensor2D => newRng(seed).normal([out, n]) as Tensor2D
  const through = (w: Tensor2D): Tensor2D => codec.decode(codec.encode(w), w.shape)
  return [
    {
      name: 'decode gives back shape and dtype, for sides of any size',
      run: async () => {
        for (const shape of shapes) {
          const w = random(shape)
          const back = through(w)
          must(back.shape.join() === shape.join(), `[${shape}] came back as [${back.shape}]`)
          must(back.dtype === 'float32', `[${shape}] came back as ${back.dtype}`)
          await mustBeFinite(back, `[${shape}]`)
        }
      },
    },
    {
      name: `the error on N(0, 1) is at most ${error}`,
      run: async () => {
        for (const shape of shapes) {
          const w = random(shape)
          const found = relative(await through(w).data(), await w.data())
          must(found <= error, `[${shape}]: relative error ${found.toFixed(4)}`)
        }
      },
    },
    {
      name: 'decode∘encode is idempotent',
      run: async () => {
        for (const shape of shapes) {
          const once = through(random(shape))
          await mustEqual(through(once), once, `[${shape}] stored twice`, again)
        }
      },
    },
    {
      name: 'encoding is deterministic and changes nothing that it is given',
      run: async () => {
        const w = random(shapes[0]!)
        const before = await snapshot({ w })
        const [a, b] = [codec.encode(w), codec.encode(w)]
        for (const [name, t] of Object.entries(a))
          must(distance(await t.data(), await b[name]!.data()) === 0, `${name} differs the second time`)
        const parts = await snapshot(a)
        codec.decode(a, w.shape)
        await mustBeUnchanged(a, parts, 'decoding')
        await mustBeUnchanged({ w }, before, 'encoding')
      },
    },
    {
      name: 'its layout is that of its parts',
      run: () => {
        for (const shape of shapes) {
          const parts = codec.encode(random(shape))
          const layout = codec.layout?.(shape)
          if (!layout) return
          must(Object.keys(layout).sort().join() === Object.keys(parts).sort().join(), `[${shape}]: other parts`)
          for (const [name, t] of Object.entries(parts)) {
            const { dtype, shape: wanted } = layout[name]!
            must(t.dtype === dtype, `[${shape}] ${name}: ${t.dtype} where the layout says ${dtype}`)
            const same = wanted.length === t.shape.length && wanted.every((d, i) => d === null || d === t.shape[i])
            must(same, `[${shape}] ${name}: [${t.shape}] where the layout says [${wanted}]`)
          }
        }
      },
    },
    {
      name: `takes at most ${bits} bits a number`,
      run: () => {
        const w = random([256, 256])
        const found = (bytesOf(codec.encode(w)) * 8) / w.size
        must(found <= bits, `${found.toFixed(3)} bits a number`)
      },
    },
    {
      name: 'zero, constant, tiny and huge matrices stay finite',
      run: async () => {
        const shape = shapes[0]!
        const [out, n] = shape
        const oneRow = Float32Array.from({ length: out * n }, (_, i) => (i < n ? 0 : (i % 7) - 3))
        const cases: Record<string, Tensor2D> = {
          zero: zeros([out, n]) as Tensor2D,
          constant: fill([out, n], 0.37) as Tensor2D,
          tiny: mul(random(shape), 1e-30) as Tensor2D,
          huge: mul(random(shape), 1e30) as Tensor2D,
          'with a row of zeros': tensor(oneRow, [out, n]) as Tensor2D,
        }
        for (const [name, w] of Object.entries(cases)) {
          await allFinite(codec.encode(w), `${name}: part`)
          await mustBeFinite(through(w), name)
        }
        await mustEqual(through(cases['zero']!), cases['zero']!, 'a matrix of zeros', 0)
        const flat = through(cases['constant']!)
        await mustEqual(flat, cases['constant']!, 'a constant matrix', 0.37 * error)
      },
    },
    {
      name: 'the sign and order of magnitude of a scaled matrix follow it',
      run: async () => {
        const w = random(shapes[0]!)
        const one = await through(w).data()
        // a power of 2 changes no rounding; levels may differ between the signs, and single numbers land a level apart
        const four = await through(mul(w, 4) as Tensor2D).data()
        must(relative(four, one, 4) <= Math.max(tolerance, again), `encode(4·w): off by ${relative(four, one, 4)}`)
        const minus = await through(mul(w, -1) as Tensor2D).data()
        must(relative(minus, one, -1) <= 2 * error + tolerance, `encode(−w): off by ${relative(minus, one, -1)}`)
      },
    },
    {
      name: 'a packed weight multiplies, looks rows up and differentiates as its dense matrix does',
      run: async () => {
        for (const shape of shapes) {
          const weight = packed(codec, random(shape))
          const w = weight.dense()
          const x = newRng(22).normal([2, 3, shape[1]])
          await mustEqual(weight.apply(x), linear(x, w), `[${shape}] product`, tolerance)
          const index = tensor1d([0, shape[0] - 1], 'int32')
          await mustEqual(weight.rows!(index), lookup(w, index), `[${shape}] rows`, tolerance)
          const dy = newRng(23).normal([2, 3, shape[0]])
          const grad = (f: (x: Tensor) => Tensor): Tensor => gradients(() => sum(mul(f(x), dy)), [x]).grads[0]!
          await mustEqual(
            grad((x) => weight.apply(x)),
            grad((x) => linear(x, w)),
            `[${shape}] gradient`,
            10 * tolerance,
          )
        }
      },
    },
    {
      name: 'parts survive a safetensors file, and nothing is left behind',
      run: async () => {
        const w = random(shapes[0]!)
        const parts = codec.encode(w)
        const copies: Record<string, Tensor> = {}
        for (const [name, t] of Object.entries(parts) as [string, Tensor][]) {
          must(['float32', 'int32', 'bool'].includes(t.dtype), `${name}: dtype ${t.dtype} has no place in a file`)
          must(!name.includes('.'), `${name}: a dot in the name of a part`)
          copies[name] = tensor((await t.data()).slice(), t.shape, t.dtype)
        }
        await mustEqual(codec.decode(copies as Params, w.shape), codec.decode(parts, w.shape), 'read back', 0)
        const n = leaked(() => void tidy(() => through(w)))
        must(n === 0, `${n} tensors remain after encode and decode`)
      },
    },
  ]
}
