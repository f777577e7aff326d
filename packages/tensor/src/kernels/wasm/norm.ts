import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output, routines } from '../../heap.ts'
import type { Backward, Faster } from '../../kernel.ts'
import * as module from '../../wasm/norm.generated.ts'

type Attrs = { eps: number }
type Norm = { x: Tensor; scale: Tensor; bias?: Tensor | undefined }
type Added = { h: Tensor; branch: Tensor; scale: Tensor; bias?: Tensor | undefined }

const at = (t: Tensor | undefined): number => (t ? addressOf(t) : 0)
const fits = (x: Tensor, ...vectors: (Tensor | undefined)[]): boolean =>
  x.size > 0 &&
  [x, ...vectors].every((t) => !t || t.dtype === 'float32') &&
  vectors.every((v) => !v || v.size === x.shape.at(-1))

interface Rows {
  x: Tensor
  branch?: Tensor
  scale: Tensor
  bias?: Tensor | undefined
  eps: number
  centred: boolean
}
/** for the gradient, mean and 1/√… of each row are kept in `stats` [rows, 2] */
const normalize = (
  { x, branch, scale, bias, eps, centred }: Rows,
  training: boolean,
): { sum: Tensor; y: Tensor; saved: Record<string, Tensor> } => {
  const width = x.shape.at(-1)!
  const rows = x.size / width
  const y = output(x.shape)
  const sum = branch ? output(x.shape) : y
  const stats = training ? output([rows, 2]) : undefined
  const call = routines(module)!['normalize']!
  call(at(x), at(branch), at(scale), at(bias), at(sum), at(y), at(stats), rows, width, eps, Number(centred))
  return { sum, y, saved: stats ? { stats } : {} }
}

interface Slope {
  x: Tensor
  scale: Tensor
  stats: Tensor
  dy: Tensor
  dsum?: Tensor
  centred: boolean
  wants: { x: boolean; scale: boolean; bias: boolean }
}
const slope = ({ x, scale, stats, dy, dsum, centred, wants }: Slope): { x?: Tensor; scale?: Tensor; bias?: Tensor } => {
  const width = x.shape.at(-1)!
  const dx = wants.x ? output(x.shape) : undefined
  const dscale = wants.scale ? output(scale.shape) : undefined
  const dbias = wants.bias ? output([width]) : undefined
  const call = routines(module)!['slope']!
  const rows = x.size / width
  call(at(x), at(scale), at(stats), at(dy), at(dsum), at(dx), at(dscale), at(dbias), rows, width, Number(centred))
  return { ...(dx && { x: dx }), ...(dscale && { scale: dscale }), ...(dbias && { bias: dbias }) }
}

const norm = (centred: boolean): Faster<Norm, Attrs> => ({
  forward: ({ x, scale, bias }, { eps }) => {
    if (!fits(x, scale, bias)) return undefined
    return normalize({ x, scale, bias, eps, centred }, false).y
  },
  ahead: ({ x, scale, bias }, { eps }) => {
    if (!fits(x, scale, bias)) return undefined
    return normalize({ x, scale, bias, eps, centred }, true)
  },
  gradient: ({ dy, saved, wants }: Backward<Norm, Attrs>) => {
    const { x, scale, stats } = saved as unknown as Record<string, Tensor>
    if (!stats || dy.dtype !== 'float32') return undefined
    const wanted = { x: wants('x'), scale: wants('scale'), bias: wants('bias') }
    return slope({ x: x!, scale: scale!, stats, dy, centred, wants: wanted })
  },
})

const added = (centred: boolean): Faster<Added, Attrs, [Tensor, Tensor]> => ({
  forward: ({ h, branch, scale, bias }, { eps }) => {
    if (!fits(h, scale, bias) || branch.dtype !== 'float32') return undefined
    const { sum, y } = normalize({ x: h, branch, scale, bias, eps, centred }, false)
    return [sum, y]
  },
  ahead: ({ h, branch, scale, bias }, { eps }) => {
    if (!fits(h, scale, bias) || branch.dtype !== 'float32') return undefined
    const { sum, y, saved } = normalize({ x: h, branch, scale, bias, eps, centred }, true)
    return { y: [sum, y], saved }
  },
  gradient: ({ dys: [dsum, dy], saved, wants }: Backward<Added, Attrs>) => {
    const { y, scale, stats } = saved as unknown as Record<string, Tensor>
    if (!stats) return undefined
    const wanted = { x: wants('h') || wants('branch'), scale: wants('scale'), bias: wants('bias') }
    const { x, ...vectors } = slope({ x: y!, scale: scale!, stats, dy: dy!, dsum: dsum!, centred, wants: wanted })
    return { ...vectors, ...(x && { h: x, branch: x }) }
  },
})

export const rmsNorm: Faster<Norm, Attrs> = norm(false)
export const layerNorm: Faster<Norm, Attrs> = norm(true)
export const addRmsNorm: Faster<Added, Attrs, [Tensor, Tensor]> = added(false)
export const addLayerNorm: Faster<Added, Attrs, [Tensor, Tensor]> = added(true)
