import type { Codec, Params, Seen, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { defineKernel, kernels, linear, matMul, reshape } from '@weftjs/tensor'
import { lookup } from './dense.ts'

interface Attrs {
  readonly codec: Codec
  readonly shape: readonly [number, number]
  readonly parts: Params
}

const fast = (codec: Codec): Codec | undefined => (kernels.plain ? undefined : codec)

/** The decoded matrix lives within one product, forward and backward: nothing of it stays on the tape. */
const product = defineKernel<Record<string, Tensor | undefined>, Attrs>({
  name: 'PackedMatMul',
  plain: ({ x }, { codec, shape, parts }) =>
    fast(codec)?.matmul?.(x!, parts, shape) ?? linear(x!, codec.decode(parts, shape)),
  keeps: () => [], // the parts are constants that outlive the step: see `attrs`
  gradient: ({ dy, attrs: { codec, shape, parts }, shapes }) => ({
    x:
      fast(codec)?.gradient?.(dy, parts, shape) ??
      reshape(matMul(reshape(dy, [-1, shape[0]]), codec.decode(parts, shape)), shapes['x'] as number[]),
  }),
})

/** A matrix in a codec's format, frozen: `apply` decodes as it multiplies, and again for the gradient of x. */
export const packed = (codec: Codec, w: Tensor2D, seen?: Seen): Weight =>
  fromParts(codec, codec.encode(w, seen), w.shape)

/** the same from parts that are already encoded (read from a file) */
export const fromParts = (codec: Codec, parts: Params, shape: readonly [number, number]): Weight => ({
  shape,
  format: codec.name,
  codec,
  parts,
  apply: (x) => product({ x, ...parts }, { codec, shape, parts }),
  dense: () => codec.decode(parts, shape),
  like: (v) => packed(codec, v),
  rows: (index) => codec.rows?.(parts, shape, index) ?? lookup(codec.decode(parts, shape), index),
})
