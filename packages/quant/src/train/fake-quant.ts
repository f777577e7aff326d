import type { Adapter, Codec, Site, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { clone, defineKernel, linear, matMul, reshape } from '@weftjs/tensor'
import { packed } from '@weftjs/weight'

export interface FakeQuantOptions {
  /** the format that the network will be in */
  readonly of: Codec<any>
}
export interface FakeQuantState extends Record<string, Tensor> {
  /** the matrix before it is rounded [out, in] */
  w: Tensor2D
}

/** numbers that train at a site: in·out */
export const trainable = ({ in: input, out }: Pick<Site, 'in' | 'out'>): number => input * out

const rounded = (codec: Codec, w: Tensor2D): Tensor2D => codec.decode(codec.encode(w), w.shape)

/** Q(w), whose gradient is that of w */
const straight = defineKernel<{ w: Tensor }, { codec: Codec }>({
  name: 'FakeQuant',
  plain: ({ w }, { codec }) => rounded(codec, w as Tensor2D),
  keeps: () => [],
  gradient: ({ dy }) => ({ w: dy }),
})
/** x·Q(w)ᵀ: the rounded matrix lives within one product, forward and backward */
const product = defineKernel<{ x: Tensor; w: Tensor }, { codec: Codec }>({
  name: 'FakeQuantMatMul',
  plain: ({ x, w }, { codec }) => linear(x, rounded(codec, w as Tensor2D)),
  gradient: ({ dy, saved, attrs: { codec }, wants, shapes }) => {
    const rows = reshape(dy, [-1, dy.shape.at(-1)!])
    const { x, w } = saved
    return {
      ...(wants('w') && { w: matMul(rows, reshape(x, [-1, x.shape.at(-1)!]), true) }), // dyᵀ·x [out, in]
      ...(wants('x') && { x: reshape(matMul(rows, rounded(codec, w as Tensor2D)), [...shapes.x]) }),
    }
  },
})

/**
 * W = Q(w) in every pass, and the gradient of W is that of w: training that knows how it will be rounded  —  Bengio et al., arXiv:1308.3432
 *
 * Any codec, without its calibration. `fold` packs w: the folded network is in the format, and gives the logits that the
 * tuned one gave. Comes before other adapters at its sites. @family quant
 */
export const fakeQuant = ({ of }: FakeQuantOptions): Adapter<FakeQuantState> => {
  if (typeof of?.encode !== 'function')
    throw new Error('fakeQuant: give the format that the network will be in: fakeQuant({ of: nf4() })')
  const codec = of as Codec
  /** rounded matrices, by what they were rounded from */
  const sources = new WeakMap<Tensor, Tensor2D>()
  const bases = new WeakSet<Weight>()
  return {
    name: 'fake-quant',
    options: { of },
    init: ({ weight }) => {
      // the parts stay the network's own
      const base: Weight = { ...weight!, parts: {}, like: (w) => packed(codec, sources.get(w) ?? w) }
      bases.add(base)
      return { state: { w: clone(weight!.dense()) as Tensor2D }, base }
    },
    weight: (base, { w }, { site }) => {
      if (!bases.has(base) && base.format !== site.weight?.format)
        throw new Error(`${site.name}: 'fake-quant' takes the place of a matrix; put it before the other adapters here`)
      return {
        shape: w.shape,
        format: 'fake-quant',
        parts: { w },
        apply: (x) => product({ x, w }, { codec }),
        dense: () => {
          const found = straight({ w }, { codec }) as Tensor2D // [out, in]
          sources.set(found, w)
          return found
        },
        like: base.like,
      }
    },
  }
}
