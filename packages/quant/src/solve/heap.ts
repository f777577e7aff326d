import { addressOf, heapBytes, output } from '@weftjs/tensor/heap'

export { heapBytes }

/** bytes that a solver may take of the wasm heap for one thing; above, it runs in JavaScript or in pieces */
export const MOST: number = 2 ** 29
/** bytes of scratch for each thread that `product` of the assembly takes */
export const SCRATCH = 8192

/** Room for so many bytes on the heap, until the tidy around it ends. */
export const roomFor = (bytes: number): number => {
  const at = addressOf(output([Math.ceil(bytes / 4) + 2]))
  if (!at) throw new Error(`the wasm heap has no room for ${bytes} bytes more; solve on the cpu backend`)
  return Math.ceil(at / 8) * 8
}

/** Views of the heap, good until the next tensor is made. */
export const doublesAt = (at: number, n: number): Float64Array => {
  const { buffer, byteOffset } = heapBytes(at, 8 * n)
  return new Float64Array(buffer, byteOffset, n)
}
export const floatsAt = (at: number, n: number): Float32Array => {
  const { buffer, byteOffset } = heapBytes(at, 4 * n)
  return new Float32Array(buffer, byteOffset, n)
}
export const wordsAt = (at: number, n: number): Int32Array => {
  const { buffer, byteOffset } = heapBytes(at, 4 * n)
  return new Int32Array(buffer, byteOffset, n)
}

/** Calls f for [from, to) of n in pieces of `size`, as one region of work: whoever is free takes the next. */
export const inPieces = (
  each: (calls: readonly (readonly number[])[]) => void,
  [from, to]: readonly [number, number],
  size: number,
  f: (first: number, last: number) => readonly number[],
): void => {
  const calls: (readonly number[])[] = []
  for (let i = from; i < to; i += size) calls.push(f(i, Math.min(i + size, to)))
  if (calls.length) each(calls)
}
