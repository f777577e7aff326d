import type { HeapModule } from '@weftjs/tensor/heap'

/** What a column is worth, as an importance matrix of llama.cpp has it: the mean of the squares of what the layer reads there. */
export interface Importance {
  /** of the columns of a row */
  readonly columns: Float32Array
  /** the block's first column */
  readonly at: number
  /** mean square of the row that the block is part of */
  readonly power: number
}

/** How the numbers of one of ggml's types lie in a file. */
export interface BlockLayout {
  readonly type: string
  /** ggml's number of the type, which a file has in its place */
  readonly id: number
  /** numbers in a block */
  readonly size: number
  /** bytes of a block */
  readonly bytes: number
}
/** One block at a time, from float32 and back. */
export interface Block extends BlockLayout {
  /** numbers [from, from + size) of x → bytes [at, at + bytes) of out; absent where there is only a way back */
  readonly quantize?: (x: Float32Array, from: number, out: Uint8Array, at: number, importance?: Importance) => void
  /** bytes [at, at + bytes) → numbers [to, to + size) of out */
  readonly dequantize: (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void
  /** the same in WGSL, where it is a code times a scale plus a shift */
  readonly shader?: BlockShader
  /** of a type that is decoded by a table */
  readonly table?: BlockTable
}
/** What a type is decoded by, beside the bytes of a block. */
export interface BlockTable {
  /** as the heap's routine has it */
  readonly values: () => Int8Array<ArrayBuffer>
  /** as the shader has it, which reads word i of them by `tableAt(i)` */
  readonly codes: () => Int32Array
  /** where the heap's routine is, which has the address of `values` last */
  readonly module: HeapModule
}
/**
 * Bodies of WGSL functions, given `at`, the block's first byte, and `e`, a place in the block that 4 divides. They may
 * call byteAt(i), wordAt(i), the four bytes from any i on, halfAt(i), bytesOf(word) and nibblesOf(word), its four lower halves.
 */
export interface BlockShader {
  /** functions and constants */
  readonly head?: string
  /** `vec4f`: the codes of numbers e ... e + 3 */
  readonly codes: string
  /** `vec2f`: what they are multiplied by, and what is added then */
  readonly scale: string
}

// biome-ignore format: a table: name, id, numbers in a block, bytes of a block
const ALL = [
  ['F32', 0, 1, 4], ['F16', 1, 1, 2], ['Q4_0', 2, 32, 18], ['Q4_1', 3, 32, 20], ['Q5_0', 6, 32, 22],
  ['Q5_1', 7, 32, 24], ['Q8_0', 8, 32, 34], ['Q8_1', 9, 32, 36], ['Q2_K', 10, 256, 84], ['Q3_K', 11, 256, 110],
  ['Q4_K', 12, 256, 144], ['Q5_K', 13, 256, 176], ['Q6_K', 14, 256, 210], ['Q8_K', 15, 256, 292],
  ['IQ2_XXS', 16, 256, 66], ['IQ2_XS', 17, 256, 74], ['IQ3_XXS', 18, 256, 98], ['IQ1_S', 19, 256, 50],
  ['IQ4_NL', 20, 32, 18], ['IQ3_S', 21, 256, 110], ['IQ2_S', 22, 256, 82], ['IQ4_XS', 23, 256, 136], ['I8', 24, 1, 1],
  ['I16', 25, 1, 2], ['I32', 26, 1, 4], ['I64', 27, 1, 8], ['F64', 28, 1, 8], ['IQ1_M', 29, 256, 56], ['BF16', 30, 1, 2],
  ['TQ1_0', 34, 256, 54], ['TQ2_0', 35, 256, 66], ['MXFP4', 39, 32, 17], ['NVFP4', 40, 64, 36], ['Q1_0', 41, 128, 18],
] as const
export type GgmlType = (typeof ALL)[number][0]

/** every type that a file may hold, by ggml's name; ids that are missing were of types that ggml no longer has */
export const ggmlTypes: Readonly<Record<GgmlType, BlockLayout>> = Object.fromEntries(
  ALL.map(([type, id, size, bytes]) => [type, { type, id, size, bytes }]),
) as Record<GgmlType, BlockLayout>

const byId: ReadonlyMap<number, BlockLayout> = new Map(Object.values(ggmlTypes).map((layout) => [layout.id, layout]))

/** by the number in a file; undefined where there is no such type */
export const ggmlType = (id: number): BlockLayout | undefined => byId.get(id)

/** bytes of n numbers of a type, which its block must divide */
export const bytesOfType = ({ type, size, bytes }: BlockLayout, n: number): number => {
  if (n % size)
    throw new Error(`${type}: ${n} numbers are not whole blocks of ${size}; choose a type of smaller blocks`)
  return (n / size) * bytes
}

/** what llama.cpp takes where the rows are too short for a type's blocks */
const INSTEAD: Partial<Record<string, GgmlType>> = { Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' }
/** the type that stands in for one whose blocks do not divide a row */
export const smallerBlocks = ({ type, size }: BlockLayout, width: number): GgmlType => {
  const found = size > 32 ? (INSTEAD[type] ?? 'IQ4_NL') : 'F16'
  return width % ggmlTypes[found].size ? 'F16' : found
}
