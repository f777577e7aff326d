import type { Adapter, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, linearSparse, matMul, mul, type Tensor, tensor1d, tensor2d, transpose, zeros } from '@weftjs/tensor'
import { made } from '@weftjs/weight'
import { cas } from './shared/hartley.ts'
import { patterned } from './shared/pattern.ts'
import { permute } from './shared/permute.ts'
import { mustBeNumber, mustBeWhole } from './shared/start.ts'
import { torchRandom } from './shared/torch-random.ts'

export interface FourierftOptions {
  /** n: how many entries of the spectrum train */
  readonly frequencies?: number
  /** the update is scaled by it */
  readonly scale?: number
  /** of the generator that chooses the entries: PEFT's `random_loc_seed` */
  readonly seed?: number
  /** spectrum at the start: zero, or standard normal as in PEFT's default */
  readonly init?: 'normal' | 'zero'
  /** frequencies of sites whose name matches the pattern, a regular expression on the end of the name, as in PEFT */
  readonly frequenciesPattern?: Readonly<Record<string, number>>
}
export interface FourierftState extends Record<string, Tensor> {
  /** c [n] */
  c: Tensor1D
}

/** numbers that train at a site: n */
export const trainable = (_: Site, { frequencies = 1000 }: FourierftOptions = {}): number => frequencies

/** rows and columns of n entries of [out, in], PEFT's for the seed: [2, n] */
export const places = ([out, input]: readonly [number, number], n: number, seed: number): Int32Array => {
  const at = torchRandom(seed).permutation(out * input, n)
  return Int32Array.from([...at.map((i) => Math.floor(i / input)), ...at.map((i) => i % input)])
}

/** x[−j], j modulo its length: its own inverse. Rows are gathered, since stock wasm reverses number by number */
const mirror = (x: Tensor): Tensor => {
  const n = x.shape[0]!
  const order = tensor1d(
    Int32Array.from({ length: n }, (_, j) => (n - j) % n),
    'int32',
  )
  return permute(x, order, order)
}
/** t[−j, −k], both modulo their sizes */
const mirrored = (t: Tensor): Tensor => transpose(mirror(transpose(mirror(t))))

/** W + s·Re(F⁻¹(S)), S zero but for n entries c, in random places that are the same for all matrices of a shape  —  Gao et al., arXiv:2405.03003 */
export const fourierft = (options: FourierftOptions = {}): Adapter<FourierftState> => {
  const { frequencies = 1000, scale = 150, seed = 777, init = 'normal', frequenciesPattern = {} } = options
  const patterns = patterned(frequenciesPattern, 'fourierft: frequenciesPattern')
  const drawn = new Map<string, Int32Array>()
  /** drawn once for each shape: a permutation of all its entries is long beside a step */
  const placesFor = (shape: readonly [number, number], n: number): Int32Array => {
    const key = `${shape} ${n}`
    const at = drawn.get(key) ?? places(shape, n, seed)
    drawn.set(key, at)
    return at
  }
  mustBeWhole('fourierft', 'seed', seed, 0)
  mustBeNumber('fourierft: scale', scale)
  if (init !== 'normal' && init !== 'zero')
    throw new Error(`fourierft: init must be 'normal' or 'zero', found '${init}'`)
  return {
    name: 'fourierft',
    options: { ...options },
    init: ({ name, module, weight }, { rng }) => {
      const n = patterns(name, module) ?? frequencies
      const [out, input] = weight!.shape
      mustBeWhole(name, 'frequencies', n)
      if (n > out * input)
        throw new Error(
          `${name}: ${n} frequencies for [${out}, ${input}], which has ${out * input}; lower "frequencies"`,
        )
      return { state: { c: (init === 'zero' ? zeros([n]) : rng.normal([n])) as Tensor1D } }
    },
    // cos(a + b) is half of cas(a)·cas(−b) + cas(−a)·cas(b), cas = cos + sin: a product with n·max(out, in) numbers and one with
    // min²·max, made anew for each of the passes. The update has no shorter way than its matrix: a step takes seven of LoRA's.
    weight: (base, { c }) => {
      const [out, input] = base.shape
      const factor = scale / (2 * out * input)
      const whole = made(
        [out, input],
        { c },
        (p) => {
          const values = p['c']!
          const n = values.size
          const at = placesFor([out, input], n)
          const rows = tensor2d(at, [2, n], 'int32')
          const columns = tensor2d(Int32Array.from([...at.subarray(n), ...at.subarray(0, n)]), [2, n], 'int32')
          const t = // [out, in]
            out > input
              ? matMul(linearSparse(cas(out, 1), values, columns, [input, out]), cas(input, -1))
              : matMul(cas(out, 1), linearSparse(cas(input, -1), values, rows, [out, input]), false, true)
          return add(base.dense(), mul(add(t, mirrored(t)), factor)) as Tensor2D
        },
        base.parts,
      )
      return { ...whole, like: base.like }
    },
  }
}
