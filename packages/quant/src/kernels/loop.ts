import { defineKernel, fill, type Tensor, tensor } from '@weftjs/tensor'
import type { Decode } from '@weftjs/tensor/decoded'
import { addressOf, type HeapModule, heapBytes, output, type Routines, routines } from '@weftjs/tensor/heap'
import * as decoding from '../wasm/decode.generated.ts'

export type Values = Float32Array | Int32Array
export type Constant = number | readonly number[] | boolean | string
type Attrs = Readonly<Record<string, Constant>>

export interface LoopKernel<A extends Attrs> {
  readonly name: string
  readonly dtype: 'float32' | 'int32'
  /** shape of the result; `inputs` are the sizes of what came in */
  readonly shape: (attrs: A, sizes: readonly number[]) => number[]
  /** writes every element of `out` (zeros before) */
  readonly run: (inputs: readonly Values[], out: Values, attrs: A) => void
  /** the same by our routines on the wasm heap */
  readonly heap?: (routines: Routines, inputs: readonly Tensor[], out: Tensor, attrs: A) => void
  /** where those are, if elsewhere than the routines of `decode` */
  readonly module?: HeapModule
  /** the same as WGSL: names of the inputs' arrays, and statements that set `result[index]`; `a` holds numbers of `attrs` */
  readonly wgsl: {
    readonly inputs: readonly string[]
    readonly numbers: readonly (keyof A & string)[]
    /** functions */
    readonly head?: string
    readonly body: string
  }
}

/** the bytes of packed words */
export const bytesOf = (words: Values): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, words.byteLength)

/** to the nearest whole number, halves to the even one */
export const roundEven = (v: number): number => {
  const r = Math.round(v)
  return r - v === 0.5 && r % 2 !== 0 ? r - 1 : r
}

export const checkRow = (row: number, height: number): void => {
  if (!(row >= 0 && row < height)) throw new Error(`rows: index ${row} is outside 0..${height - 1}`)
}

/** of a matrix: its numbers, those of a row, and whether rows are named */
interface Gathered {
  readonly n: number
  readonly width: number
  readonly gathered: number
}
/** a matrix as one stretch of numbers, or each of the rows that are named: from where, to before where, and the place of its first number */
export const eachStretch = (
  rows: Values,
  { n, width, gathered }: Gathered,
  stretch: (from: number, end: number, at: number) => void,
): void => {
  if (!gathered) {
    stretch(0, n, 0)
    return
  }
  for (const [i, row] of rows.entries()) {
    checkRow(row, n / width)
    stretch(row * width, (row + 1) * width, i * width)
  }
}

/** the n numbers of a matrix on the heap, or of its rows named by `rows`, to where `out` lies */
export const decodeTo = (out: Tensor, rows: Tensor, attrs: Gathered, decode: Decode): void => {
  const to = addressOf(out)
  const { buffer, byteOffset } = heapBytes(addressOf(rows), 4 * rows.size)
  const named = new Int32Array(buffer, byteOffset, rows.size)
  eachStretch(named, attrs, (from, end, at) => decode(from, end, to + 4 * at))
}
/** the same in WGSL: the number that `index` is of, `R` naming rows */
export const WGSL_GATHERED = `
  var i = index;
  if (uniforms.gathered == 1) { i = R[index / uniforms.width] * uniforms.width + index % uniforms.width; }`

interface Heap {
  typedArrayFromHeap(t: Tensor): Values
}
interface Gpu {
  runWebGPUProgram(
    program: object,
    inputs: readonly Tensor[],
    dtype: string,
    uniforms: object[],
    output: Tensor,
  ): unknown
}

/**
 * Bits have to be taken apart exactly, which tfjs's ops cannot do (its WebGPU ones compute int32 in float32). So these
 * kernels are a loop over plain arrays, in place on the wasm heap and through a read elsewhere, and a WGSL program.
 */
export const loopKernel = <A extends Attrs>({
  name,
  dtype,
  shape,
  run,
  heap,
  module = decoding,
  wgsl,
}: LoopKernel<A>): ((inputs: readonly Tensor[], attrs: A) => Tensor) => {
  const list = (inputs: object): Tensor[] => Object.values(inputs) as Tensor[]
  const sizes = (inputs: readonly Tensor[]): number[] => inputs.map((t) => t.size)
  const kernel = defineKernel<Record<string, Tensor>, A>({
    name,
    plain: (named, attrs) => {
      const inputs = list(named)
      const to = shape(attrs, sizes(inputs))
      const n = to.reduce((p, d) => p * d, 1)
      const out = dtype === 'float32' ? new Float32Array(n) : new Int32Array(n)
      run(
        inputs.map((t) => t.dataSync() as Values),
        out,
        attrs,
      )
      return tensor(out, to, dtype)
    },
    on: {
      wasm: (named, attrs, backend: Heap) => {
        const inputs = list(named)
        const ours = heap && routines(module)
        if (ours) {
          const to = shape(attrs, sizes(inputs))
          const y = dtype === 'float32' ? output(to) : fill(to, 0, dtype)
          heap(ours, inputs, y, attrs)
          return y
        }
        // made first: it may move the heap
        const out = fill(shape(attrs, sizes(inputs)), 0, dtype)
        run(
          inputs.map((t) => backend.typedArrayFromHeap(t)),
          backend.typedArrayFromHeap(out),
          attrs,
        )
        return out
      },
      webgpu: (named, attrs, backend: Gpu) => {
        const inputs = list(named)
        const out = fill(shape(attrs, sizes(inputs)), 0, dtype)
        const program = {
          variableNames: wgsl.inputs,
          outputShape: out.shape,
          dispatchLayout: { x: out.shape.map((_, i) => i) },
          dispatch: [Math.ceil(out.size / 64), 1, 1],
          workgroupSize: [64, 1, 1],
          size: true,
          uniforms: wgsl.numbers.map((n) => `${n} : i32,`).join(' '),
          shaderKey: `weft ${name}`,
          getUserCode: () =>
            `${wgsl.head ?? ''}\nfn main(index : i32) { if (index >= uniforms.size) { return; }\n${wgsl.body}\n}`,
        }
        const numbers = wgsl.numbers.map((n) => ({ type: 'int32', data: [Number(attrs[n])] }))
        backend.runWebGPUProgram(program, inputs, dtype, numbers, out)
        return out
      },
    },
  })
  return (inputs, attrs) => kernel(Object.fromEntries(inputs.map((t, i) => [String(i), t])), attrs)
}
