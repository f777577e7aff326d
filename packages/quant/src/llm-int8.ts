import type { Codec, Tensor } from '@weftjs/spec'
import { abs, add, gather, matMul, max, mean, mul, reshape, sqrt, square, tensor1d, tidy } from '@weftjs/tensor'
import { f16 } from './f16.ts'
import { int8 } from './int8.ts'
import { codes } from './kernels/layout.ts'
import { placesOf } from './kernels/places.ts'

export interface LlmInt8Options {
  /** a column of W stays in 16 bits where its input ever reached this; without data, where a weight reaches this many times the root mean square of W */
  readonly threshold?: number
}
export interface LlmInt8Parts extends Record<string, Tensor> {
  /** codes -127..127, 0 in the columns that are kept, four to an int32 word, row-major [⌈n/4⌉] */
  q: Tensor
  /** largest magnitude of the rest of each row [out] */
  scale: Tensor
  /** which columns are kept, int32 [k] */
  columns: Tensor
  /** them [out, k] in float16, two to an int32 word [⌈out·k/2⌉] */
  values: Tensor
}

/** W in int8 by row but for the columns whose inputs are outliers, |x| ≥ 6, which stay in float16: 8 + 32/in + 16·k/in bits a weight  —  Dettmers et al., arXiv:2208.07339 */
export const llmInt8 = ({ threshold = 6 }: LlmInt8Options = {}): Codec<LlmInt8Parts> => {
  if (!(threshold > 0)) throw new Error(`llm-int8: threshold must be above 0, found ${threshold}`)
  const rest = int8()
  const half = f16()
  const kept = ({ columns, values }: LlmInt8Parts, out: number): Tensor => {
    if (2 * values.size < out * columns.size)
      throw new Error(
        `llm-int8: ${columns.size} columns of ${out} numbers are not in ${values.size} words; write the weight again`,
      )
    return half.decode({ q: values }, [out, columns.size]) // [out, k]
  }
  const places = ({ columns }: LlmInt8Parts, width: number): Tensor => placesOf(columns, width)
  /** y of the rest, and what the kept columns add to it */
  const withKept = (p: LlmInt8Parts, y: Tensor | undefined, f: () => Tensor): Tensor | undefined =>
    y && p.columns.size ? add(y, reshape(f(), y.shape)) : y
  return {
    name: 'llm-int8',
    options: { threshold },
    calibrates: ['peak'],
    encode: (w, seen) =>
      tidy(() => {
        const most = seen ? seen.get('peak') : max(abs(w), 0) // [in]
        const limit = seen ? threshold : threshold * sqrt(mean(square(w))).dataSync()[0]!
        const found = Array.from(most.dataSync(), (v, i) => (v >= limit && v > 0 ? i : -1)).filter((i) => i >= 0)
        const columns = tensor1d(found, 'int32')
        if (!found.length) return { ...rest.encode(w), columns, values: tensor1d([], 'int32') }
        const mask = new Float32Array(w.shape[1]).fill(1)
        for (const i of found) mask[i] = 0
        const values = half.encode(gather(w, columns, 1)).q
        return { ...rest.encode(mul(w, tensor1d(mask))), columns, values }
      }),
    layout: (shape) => ({
      ...(rest.layout!(shape) as { q: never; scale: never }),
      columns: { dtype: 'int32', shape: [null] },
      values: { ...codes(16, 0), shape: [null] },
    }),
    decode: (p, [out, width]) =>
      tidy(() => withKept(p, rest.decode(p, [out, width]), () => matMul(kept(p, out), places(p, width))) as never),
    matmul: (x, p, shape) =>
      tidy(
        () =>
          withKept(p, rest.matmul!(x, p, shape), () => {
            const read = matMul(reshape(x, [-1, shape[1]]), places(p, shape[1]), false, true) // [N, k]
            return matMul(read, kept(p, shape[0]), false, true)
          }) as Tensor,
      ),
    gradient: (dy, p, [out, width]) =>
      tidy(
        () =>
          withKept(p, rest.gradient!(dy, p, [out, width]), () =>
            matMul(matMul(reshape(dy, [-1, out]), kept(p, out)), places(p, width)),
          ) as Tensor,
      ),
    rows: (p, [out, width], index) =>
      tidy(
        () =>
          withKept(p, rest.rows!(p, [out, width], index), () =>
            matMul(gather(kept(p, out), reshape(index, [-1]) as never), places(p, width)),
          ) as Tensor,
      ),
  }
}
