import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { tensor, tensor1d, tensor2d } from '@weftjs/tensor'
import { fromRice, MOST_RICE, riceParameter, toRice } from './compeft/rice.ts'
import { checkTernary, fromTernary, kept, type TernaryVectorOptions, toTernary } from './compeft/ternary.ts'
import { codes } from './kernels/layout.ts'

export interface CompeftOptions extends TernaryVectorOptions {
  /** `rice` is the smallest, `masks` are two bits for each number */
  readonly coding?: 'rice' | 'masks'
}
export interface CompeftParts extends Record<string, Tensor> {
  /** Golomb-Rice codes of gaps and signs, or the mask of what is above 0 and that of what is below */
  q: Tensor
  /** how many numbers are kept, bits of a gap's remainder, bytes of the codes [3]; of masks 0 */
  about: Tensor
  /** [1] */
  scale: Tensor
}

/**
 * s·sign(τ) of the largest share k of a delta, s = α·std(τ) or mean|τ|: about H₂(k) + k bits a number  —  Yadav et al., arXiv:2311.13171
 *
 * For deltas of weights and for adapters, one matrix; `toCompeft` takes all tensors as one vector, as the paper does.
 * Both ways read on the CPU.
 */
export const compeft = (options: CompeftOptions = {}): Codec<CompeftParts> => {
  const { keep = 0.1, magnitude = 'mean', alpha = 1, coding = 'rice' } = options
  checkTernary('compeft', { keep, magnitude, alpha })
  if (coding !== 'rice' && coding !== 'masks')
    throw new Error(`compeft: coding must be 'rice' or 'masks', found ${JSON.stringify(coding)}`)
  const r = riceParameter(keep)
  return {
    name: 'compeft',
    options: { keep, magnitude, ...(magnitude === 'std' && { alpha }), coding },
    encode: (w) => {
      const found = toTernary(w.dataSync() as Float32Array, { keep, magnitude, alpha })
      const scale = tensor1d([found.scale])
      if (coding === 'masks') {
        const both = new Int32Array(2 * found.plus.length)
        both.set(found.plus)
        both.set(found.minus, found.plus.length)
        return { q: tensor1d(both, 'int32'), about: tensor1d([0, 0, 0], 'int32'), scale }
      }
      const bytes = toRice(found, r)
      const words = new Int32Array(Math.ceil(bytes.length / 4))
      new Uint8Array(words.buffer).set(bytes)
      return { q: tensor1d(words, 'int32'), about: tensor1d([kept(found), r, bytes.length], 'int32'), scale }
    },
    layout: ([out, input]) => ({
      q: coding === 'masks' ? codes(64, Math.ceil((out * input) / 32)) : { dtype: 'int32', shape: [null] },
      about: { dtype: 'int32', shape: [3] },
      scale: { dtype: 'float32', shape: [1] },
    }),
    decode: ({ q, about, scale }, shape) => {
      const length = shape[0] * shape[1]
      const words = q.dataSync() as Int32Array
      const s = scale.dataSync()[0]!
      if (coding === 'masks') {
        const half = words.length / 2
        const masks = { length, plus: words.subarray(0, half), minus: words.subarray(half) }
        return tensor2d(fromTernary({ ...masks, scale: s }), [...shape])
      }
      const [count, remainder, size] = about.dataSync() as Int32Array
      const known = { count: [count!, length], remainder: [remainder!, MOST_RICE], bytes: [size!, 4 * words.length] }
      for (const [name, [value, most]] of Object.entries(known) as [string, [number, number]][])
        if (!(value >= 0 && value <= most)) throw new Error(`compeft: ${name} ${value} is not within 0..${most}`)
      const bytes = new Uint8Array(words.buffer, words.byteOffset, size!)
      const masks = fromRice(bytes, length, count!, remainder!)
      return tensor(fromTernary({ ...masks, scale: s }), [...shape]) as Tensor2D
    },
  }
}
