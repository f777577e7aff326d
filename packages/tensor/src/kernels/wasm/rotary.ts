import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output, routines } from '../../heap.ts'
import type { Backward, Faster } from '../../kernel.ts'
import * as module from '../../wasm/rotary.generated.ts'

type Inputs = { x: Tensor; cos: Tensor; sin: Tensor }
/** bytes from one batch, head and token to the next */
type Strides = readonly [batch: number, head: number, time: number]
type Sizes = readonly [B: number, H: number, T: number, S: number]

const byHead = ([, H, T, S]: Sizes): Strides => [4 * H * T * S, 4 * T * S, 4 * S]
const byTime = ([, H, T, S]: Sizes): Strides => [4 * H * T * S, 4 * S, 4 * H * S]

interface Rotation {
  x: Tensor
  cos: Tensor
  sin: Tensor
  shape: readonly number[]
  sizes: Sizes
  from: Strides
  to: Strides
  sign: number
}
const rotate = ({ x, cos, sin, shape, sizes, from, to, sign }: Rotation): Tensor | undefined => {
  const [B, , T, S] = sizes
  const table = (T * S) / 2
  const tables = [cos, sin].every((t) => t.dtype === 'float32' && (t.size === table || t.size === B * table))
  if (x.dtype !== 'float32' || cos.size !== sin.size || !tables || x.size === 0) return undefined
  const y = output(shape)
  const addresses = [x, cos, sin, y].map(addressOf)
  routines(module)!['rotate']!(...addresses, ...sizes, ...from, ...to, cos.size > table ? 4 * table : 0, sign)
  return y
}

const sizesOf = (x: readonly number[]): Sizes => x as unknown as Sizes

export const rotary: Faster<Inputs, object> = {
  forward: ({ x, cos, sin }) => {
    const sizes = sizesOf(x.shape)
    if (x.rank !== 4) return undefined
    return rotate({ x, cos, sin, shape: x.shape, sizes, from: byHead(sizes), to: byHead(sizes), sign: 1 })
  },
  gradient: ({ dy, saved: { cos, sin } }: Backward<Inputs, object>) => {
    const sizes = sizesOf(dy.shape)
    if (dy.rank !== 4) return undefined
    const x = rotate({ x: dy, cos, sin, shape: dy.shape, sizes, from: byHead(sizes), to: byHead(sizes), sign: -1 })
    return x && { x }
  },
}

export const rotaryHeads: Faster<Inputs, { heads: number }> = {
  forward: ({ x, cos, sin }, { heads }) => {
    const [B, T, D] = x.shape as [number, number, number]
    const sizes = [B, heads, T, D / heads] as const
    return rotate({ x, cos, sin, shape: sizes, sizes, from: byTime(sizes), to: byHead(sizes), sign: 1 })
  },
  gradient: ({ dy, saved: { cos, sin }, shapes }: Backward<Inputs, { heads: number }>) => {
    const sizes = sizesOf(dy.shape)
    const x = rotate({ x: dy, cos, sin, shape: shapes.x, sizes, from: byHead(sizes), to: byTime(sizes), sign: -1 })
    return x && { x }
  },
}
