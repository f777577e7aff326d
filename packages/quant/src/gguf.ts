import type { Codec, Seen, Tensor } from '@weftjs/spec'
import { maximum, mean, mul, reshape, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { blockOf, writable } from './gguf/blocks/index.ts'
import { kernelsOf } from './gguf/kernels.ts'
import { type GgmlType, smallerBlocks } from './gguf/types.ts'
import { codes } from './kernels/layout.ts'

export interface GgufOptions {
  /** ggml's name: Q8_0, Q4_0, Q4_K, IQ4_NL ... */
  readonly type?: GgmlType
  /** weigh errors by the mean square of what each column is multiplied by, as llama.cpp does by its imatrix */
  readonly importance?: boolean
}
export interface GgufParts extends Record<string, Tensor> {
  /** the blocks of a GGUF file, row by row, four bytes to an int32 word */
  q: Tensor
}

/** E[x²] [in]; columns that were never reached count for little, not for nothing */
const importanceOf = (seen: Seen): Tensor =>
  tidy(() => {
    const square = seen.get('square')
    return maximum(square, maximum(mul(mean(square), 1e-6), 1e-30))
  })

/** Blocks of 32 or 256 numbers as llama.cpp keeps them: 4.5 bits a weight in Q4_K, 2.6 to 8.5 in others  —  GGUF of ggml */
export const gguf = ({ type = 'Q4_K', importance = false }: GgufOptions = {}): Codec<GgufParts> => {
  const block = blockOf(type)
  const { encode, decode, decoder } = kernelsOf(block)
  const check = (input: number): void => {
    if (input % block.size === 0) return
    throw new Error(
      `gguf: a row of ${input} numbers is not whole blocks of ${block.size}, which ${type} has; take ${smallerBlocks(block, input)} here, or leave this weight out by "skip"`,
    )
  }
  return {
    name: 'gguf',
    options: { type, ...(importance && { importance }) },
    ...(importance && { calibrates: ['square'] as const }),
    encode: (w, seen) => {
      if (!block.quantize)
        throw new Error(`gguf: ${type} can be read and not made here; those that can are ${writable.join(', ')}`)
      check(w.shape[1])
      return tidy(() => ({ q: encode(w, importance && seen ? importanceOf(seen) : undefined) }))
    },
    layout: ([out, input]) => {
      check(input)
      return { q: codes((8 * block.bytes) / block.size, out * input) }
    },
    decode: ({ q }, shape) => reshape(decode(q, shape), [...shape]),
    matmul: (x, { q }, shape) => decodedProduct(x, shape, decoder(q)),
    gradient: (dy, { q }, shape) => decodedProduct(dy, shape, decoder(q), true),
    rows: ({ q }, shape, index) => reshape(decode(q, shape, reshape(index, [-1])), [...index.shape, shape[1]]),
  }
}
