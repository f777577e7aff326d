import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { reshape, tensor1d, tidy } from '@weftjs/tensor'
import { type Decoder, decodedProduct } from '@weftjs/tensor/decoded'
import { type ConstantsDtype, constants } from './kernels/constants.ts'
import { blockOf, checkGroup } from './kernels/group.ts'
import { codes } from './kernels/layout.ts'
import { decodeUniform, encodeUniform, type Steps, uniformDecoder } from './kernels/uniform.ts'
import { clipped } from './solve/awq-clip.ts'
import { stepsOf } from './solve/awq-grid.ts'

export interface AwqOptions {
  /** the format has 4 and no other */
  readonly bits?: 4
  /** numbers of a row that share a scale and a zero point; -1: the whole row */
  readonly group?: number
  /** whether the largest weights of a group are clipped where that brings the layer's output nearer */
  readonly clip?: boolean
  /** of the scales; the tools that serve this format know F16 */
  readonly dtype?: ConstantsDtype
}
export interface AwqParts extends Record<string, Tensor> {
  /** codes row by row, one stream, the lowest bits first [⌈n/8⌉] */
  q: Tensor
  /** W = (code − zero)·scale, of each group, row by row: float16, two to an int32 word, or float32 [out·in/group] */
  scale: Tensor
  /** codes of 0, packed as `q` is */
  zero: Tensor
}
/**
 * clamp(round(W/s) + z, 0, 15) by groups of a row: 4 + 20/group bits a weight  —  Lin et al., arXiv:2306.00978
 *
 * The grid alone; what makes it AWQ is `awqScale`, which moves scales between the layers first. With `clip`, weights are
 * clipped by E[x·xᵀ] of what the layer reads, and without such statistics (`like`, which folds adapters and starts LoftQ
 * and QPiSSA) not at all.
 */
export const awq = ({ bits = 4, group = 128, clip = false, dtype = 'F16' }: AwqOptions = {}): Codec<AwqParts> => {
  if (bits !== 4) throw new Error(`awq: bits must be 4, found ${JSON.stringify(bits)}; hqq and affine have others`)
  checkGroup('awq', group)
  const kept = constants('awq', dtype)
  const blockIn = ([, width]: readonly [number, number]): number => blockOf('awq', group, width)
  const groups = (shape: readonly [number, number]): number => (shape[0] * shape[1]) / blockIn(shape)
  const zerosAt = (zero: Tensor, n: number): Tensor =>
    decodeUniform(zero, { scale: tensor1d([1]), zero: 0 }, { bits, block: Math.max(1, n) }, [1, n])
  const steps = ({ scale, zero }: AwqParts, n: number): Steps => ({
    scale: kept.read(scale, n),
    zero: reshape(zerosAt(zero, n), [n]),
  })
  const decoder = ({ q, scale, zero }: AwqParts, shape: readonly [number, number]): Decoder =>
    uniformDecoder(
      q,
      { scale: kept.read(scale, groups(shape)), zero: { codes: zero } },
      { bits, block: blockIn(shape) },
    )
  const product = (x: Tensor, p: AwqParts, shape: readonly [number, number], back: boolean): Tensor | undefined =>
    tidy(() => decodedProduct(x, shape, decoder(p, shape), back) as Tensor) as Tensor | undefined
  return {
    name: 'awq',
    options: { bits, group, clip, dtype },
    ...(clip && { calibrates: ['moment'] as const }),
    encode: (w, seen) =>
      tidy(() => {
        const block = blockIn(w.shape)
        const n = groups(w.shape)
        const held = clip && seen ? clipped(w, seen.get('moment'), block) : w
        const found = stepsOf(reshape(held, [n, block]))
        const [scale, zero] = [reshape(found.scale, [n]), reshape(found.zero, [n])]
        return {
          q: encodeUniform(held, { scale, zero }, { bits, block }),
          scale: kept.part(scale),
          zero: encodeUniform(zero, { scale: tensor1d([1]), zero: 0 }, { bits, block: Math.max(1, n) }),
        }
      }),
    layout: (shape) => {
      const n = groups(shape)
      return { q: codes(bits, shape[0] * shape[1]), scale: kept.layout(n), zero: codes(bits, n) }
    },
    decode: (p, shape) =>
      tidy(() => {
        const flat = decodeUniform(p.q, steps(p, groups(shape)), { bits, block: blockIn(shape) }, shape)
        return reshape(flat, [...shape]) as Tensor2D
      }),
    matmul: (x, p, shape) => product(x, p, shape, false),
    gradient: (dy, p, shape) => product(dy, p, shape, true),
    rows: (p, shape, index) =>
      tidy(() => {
        const grid = { bits, block: blockIn(shape) }
        const found = decodeUniform(p.q, steps(p, groups(shape)), grid, shape, reshape(index, [-1]))
        return reshape(found, [...index.shape, shape[1]])
      }),
  }
}
