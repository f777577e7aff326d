/**
 * Products with a matrix W [out, in] of few bits, which is decoded inside the product: W never exists whole.
 * For codecs: they bring what decodes, and everything else is here.
 */
import { backend, type Tensor } from '@tensorflow/tfjs-core'
import { engine } from './engine.ts'
import { addressOf, output, routines } from './heap.ts'
import { gemmOf } from './wasm/batch-matmul.ts'
import * as module from './wasm/dots.generated.ts'
import type { WasmBackend } from './wasm/heap.ts'

/** writes numbers [from, to) of W, row by row, as float32 to the heap's address `at` and on */
export type Decode = (from: number, to: number, at: number) => void

/** W as a shader reads it */
export interface Decoding {
  /** stands for the code */
  readonly name: string
  /** buffers by name: `codes: u32` where not f32 */
  readonly reads: Readonly<Record<string, Tensor>>
  /**
   * WGSL functions of i, which counts the numbers of W row by row: `weightAt(i: u32) -> f32`, and the four from i on,
   * a multiple of 4, `weightsAt(i: u32) -> vec4f`. `width` is the length of a row, an expression.
   */
  readonly code: (width: string) => string
  /** statements that so many threads (`local` counts them) run before, to fill workgroup memory */
  readonly start?: (threads: number) => string
}

/** How W is decoded, asked for on the backend that has a use for it; undefined where it cannot be. */
export interface Decoder {
  /** wasm */
  readonly heap: () => Decode | undefined
  /** WebGPU */
  readonly shader: () => Decoding | undefined
}

type Shape = readonly [out: number, input: number]
export type DecodedOn = (x: Tensor, shape: Shape, decoder: Decoder, back: boolean) => Tensor | undefined

/** by backend */
export const decodedOn: Record<string, DecodedOn> = {}

/** rows of x that are met by dot products, with rows of W that a first-level cache holds */
const THIN = 6
const FEW = 2 ** 13
/** floats decoded at a time, and rows at the least, so that the product loses nothing */
const PANEL = 2 ** 19
const ROWS = 256

decodedOn['wasm'] = (x, [out, width], decoder, back) => {
  const multiply = gemmOf(backend() as unknown as WasmBackend)
  const decode = decoder.heap()
  if (!multiply || !decode) return undefined
  const m = x.size / x.shape.at(-1)!
  const dots = m <= THIN && !back ? routines(module)?.['dots'] : undefined
  const most = dots ? Math.max(4, Math.floor(FEW / width)) : Math.max(ROWS, Math.floor(PANEL / width))
  const rows = 4 * Math.ceil(out / Math.ceil(out / most) / 4) // even: the codes of a row may end within a byte
  const y = output([...x.shape.slice(0, -1), back ? width : out])
  const panel = output([Math.min(rows, out), width])
  const [ax, ay, ap] = [addressOf(x), addressOf(y), addressOf(panel)]
  for (let r = 0; r < out; r += rows) {
    const n = Math.min(rows, out - r)
    decode(r * width, (r + n) * width, ap)
    if (dots) dots(ax, ap, ay + 4 * r, m, n, width, out)
    else if (back)
      multiply({
        ...{ m, n: width, k: n, transposeA: false, transposeB: false },
        ...{ a: ax + 4 * r, lda: out, b: ap, c: ay, add: r > 0 },
      })
    else multiply({ ...{ m, n, k: width, transposeA: false, transposeB: true }, a: ax, b: ap, c: ay + 4 * r, ldc: out })
  }
  panel.dispose()
  return y
}

/**
 * x [..., in]·Wᵀ → [..., out], or with `back` x [..., out]·W → [..., in]; undefined where the backend has no faster way
 * than to decode W first. For kernels with a gradient of their own: it is not recorded for one.
 */
export const decodedProduct = (x: Tensor, shape: Shape, decoder: Decoder, back = false): Tensor | undefined => {
  if (x.dtype !== 'float32' || x.size * shape[0] * shape[1] === 0) return undefined
  return decodedOn[engine().backendName]?.(x, shape, decoder, back)
}
