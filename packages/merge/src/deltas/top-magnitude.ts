import {
  abs,
  cast,
  cumsum,
  defineKernel,
  equal,
  greater,
  lessEqual,
  logicalAnd,
  logicalOr,
  min,
  mul,
  reshape,
  sub,
  sum,
  type Tensor,
  tensor,
  topk,
} from '@weftjs/tensor'
import type { Sparsify } from './on-deltas.ts'

/**
 * The bits of |x| order as numbers do: two counting passes over halves of them find the k-th largest exactly.
 * @returns its bits, and how many entries equal to it belong to the k
 */
const select = (bits: Uint32Array, k: number): [threshold: number, ties: number] => {
  const counts = new Uint32Array(1 << 16)
  for (let i = 0; i < bits.length; i++) counts[(bits[i]! & 0x7fffffff) >>> 16]!++
  let left = k
  let high = counts.length - 1
  for (; left > counts[high]!; high--) left -= counts[high]!
  counts.fill(0)
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & 0x7fffffff) >>> 16 === high) counts[bits[i]! & 0xffff]!++
  let low = counts.length - 1
  for (; left > counts[low]!; low--) left -= counts[low]!
  return [high * 0x10000 + low, left]
}

const onHost = ({ x }: { x: Tensor }, { k }: { k: number }): Tensor => {
  const values = x.dataSync() as Float32Array
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const [threshold, ties] = select(bits, k)
  const out = new Float32Array(values.length)
  for (let i = 0, equal = 0; i < out.length; i++) {
    const size = bits[i]! & 0x7fffffff
    if (size > threshold || (size === threshold && equal++ < ties)) out[i] = values[i]!
  }
  return tensor(out, x.shape)
}

const kernel = defineKernel<{ x: Tensor }, { k: number }>({
  name: 'TopMagnitude',
  plain: ({ x }, { k }) => {
    const size = reshape(abs(x), [-1]) // [n]
    const threshold = min(topk(size, k, true).values)
    const above = greater(size, threshold)
    const level = equal(size, threshold)
    const ties = sub(k, sum(cast(above, 'int32')))
    const first = logicalAnd(level, lessEqual(cumsum(cast(level, 'int32')), ties))
    return mul(x, reshape(cast(logicalOr(above, first), 'float32'), x.shape))
  },
  on: { cpu: onHost, wasm: onHost },
})

/** x with all but its k entries of largest magnitude set to 0; of equals, the first stay */
export const keepLargest = (x: Tensor, k: number): Tensor => kernel({ x }, { k })

/** The share `density` of each τᵢ that is largest in magnitude: ⌊density·n⌋ entries, at least one; one number, or one for each model. */
export const topMagnitude =
  (density: number | readonly number[]): Sparsify =>
  (delta, i, { name }) => {
    const share = typeof density === 'number' ? density : density[i]
    if (share === undefined) throw new Error(`${name}: no density for model ${i}; give each model one`)
    if (share >= 1) return delta
    if (!(share > 0)) throw new Error(`${name}: density must be above 0, found ${share}; at 0 nothing would be merged`)
    // mergekit refuses a tensor of which less than one number would stay
    const k = Math.max(1, Math.floor(share * delta.size))
    return keepLargest(delta, k)
  }
