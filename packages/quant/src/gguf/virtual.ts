import { type ByteSource, bytesOf, CheckpointError, type Dtype, elementsOf } from '@weftjs/tensor/checkpoint'

/** A tensor that a safetensors file would hold, whose bytes come from elsewhere. */
export interface VirtualTensor {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** its bytes [from, to) */
  read(from: number, to: number): Promise<Uint8Array>
}

/** A safetensors file that exists nowhere: its header is made here, and each piece of data when it is asked for. */
export const virtualSafetensors = (
  name: string,
  tensors: readonly VirtualTensor[],
  close?: () => Promise<void> | void,
): ByteSource => {
  const spans: { readonly start: number; readonly end: number; readonly tensor: VirtualTensor }[] = []
  const header: string[] = []
  let at = 0
  for (const tensor of tensors) {
    const size = bytesOf(tensor.dtype, elementsOf(tensor.shape) ?? Number.NaN)!
    header.push(
      `${JSON.stringify(tensor.name)}:{"dtype":"${tensor.dtype}","shape":[${tensor.shape.join(',')}],"data_offsets":[${at},${at + size}]}`,
    )
    if (size) spans.push({ start: at, end: at + size, tensor })
    at += size
  }
  const text = new TextEncoder().encode(`{${header.join(',')}}`)
  const length = Math.ceil(text.length / 8) * 8
  const head = new Uint8Array(8 + length).fill(0x20)
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true)
  head.set(text, 8)
  const size = head.length + at

  /** the spans that [start, end) of the data touches */
  const touched = (start: number, end: number): typeof spans => {
    let [lo, hi] = [0, spans.length]
    while (lo < hi) {
      const mid = (lo + hi) >> 1
      if (spans[mid]!.end <= start) lo = mid + 1
      else hi = mid
    }
    const found: typeof spans = []
    for (let i = lo; i < spans.length && spans[i]!.start < end; i++) found.push(spans[i]!)
    return found
  }
  return {
    name,
    size,
    ...(close && { close }),
    read: async (start, end) => {
      if (!(start >= 0 && start <= end && end <= size))
        throw new CheckpointError(`bytes ${start} to ${end} asked of ${size}`, { file: name })
      if (end <= head.length) return head.subarray(start, end)
      const [from, to] = [Math.max(0, start - head.length), end - head.length]
      const parts = touched(from, to)
      const only = parts[0]
      if (parts.length === 1 && start >= head.length && from >= only!.start && to <= only!.end)
        return only!.tensor.read(from - only!.start, to - only!.start)
      const all = new Uint8Array(end - start)
      if (start < head.length) all.set(head.subarray(start))
      for (const { start: begin, end: stop, tensor } of parts) {
        const [a, b] = [Math.max(from, begin), Math.min(to, stop)]
        all.set(await tensor.read(a - begin, b - begin), a + head.length - start)
      }
      return all
    },
  }
}

/** the same bytes, for what is kept as it is in the file */
type Read = (from: number, to: number) => Promise<Uint8Array>

/** rows of `bytes` each, in groups of `height`, of which row r comes from row `of(r)` of the group */
export const permutedRows =
  (read: Read, bytes: number, height: number, of: (row: number) => number): Read =>
  async (from, to) => {
    const group = bytes * height
    const [first, last] = [Math.floor(from / group), Math.ceil(to / group)]
    const source = await read(first * group, last * group)
    const rows = new Uint8Array(source.length)
    for (let i = 0; i * bytes < source.length; i++) {
      const j = Math.floor(i / height) * height + of(i % height)
      rows.set(source.subarray(j * bytes, (j + 1) * bytes), i * bytes)
    }
    return rows.subarray(from - first * group, to - first * group)
  }

/** float32 numbers with something added */
export const shifted =
  (read: Read, by: number): Read =>
  async (from, to) => {
    const [first, last] = [4 * Math.floor(from / 4), 4 * Math.ceil(to / 4)]
    const values = new Float32Array((await read(first, last)).slice().buffer)
    for (let i = 0; i < values.length; i++) values[i]! += by
    return new Uint8Array(values.buffer).subarray(from - first, to - first)
  }

/** zeros behind the end, up to whole words */
export const padded =
  (read: Read, size: number): Read =>
  async (from, to) => {
    if (to <= size) return read(from, to)
    const bytes = new Uint8Array(to - from)
    if (from < size) bytes.set(await read(from, size))
    return bytes
  }
