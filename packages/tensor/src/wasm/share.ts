/**
 * Worker threads can work on a WebAssembly memory that is declared as shared. tfjs's module declares its own as unshared
 * in one byte, and ours import one: both declarations are changed here, nothing else differs.
 */

/** 64 KiB each; a shared memory must have a maximum, and 4 GiB is all that an address reaches */
const PAGES = 65536
const IMPORTS = 2
const MEMORIES = 5

const number = (bytes: Uint8Array, at: number): { value: number; next: number } => {
  const low = bytes[at]! & 127
  if (bytes[at]! < 128) return { value: low, next: at + 1 }
  const high = number(bytes, at + 1)
  return { value: low + 128 * high.value, next: high.next }
}
const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(Math.floor(n / 128))])

/** limits at `at`: a flag (1 has a maximum, 2 is shared), a minimum, a maximum */
const sharedLimits = (bytes: Uint8Array, at: number): { limits: number[]; next: number } => {
  const minimum = number(bytes, at + 1)
  const maximum = bytes[at]! & 1 ? number(bytes, minimum.next) : { value: PAGES, next: minimum.next }
  return { limits: [3, ...leb(minimum.value), ...leb(maximum.value)], next: maximum.next }
}

/** where the memory is declared in the section that starts at `at`; -1 where it is not */
const declaration = (bytes: Uint8Array, id: number, at: number): number => {
  const count = number(bytes, at)
  if (id === MEMORIES) return count.next
  for (let i = 0, entry = count.next; i < count.value; i++) {
    for (let text = 0; text < 2; text++) {
      const length = number(bytes, entry)
      entry = length.next + length.value
    }
    const kind = bytes[entry]!
    if (kind === 2) return entry + 1
    // a function has an index, a global two bytes; a table's limits do not occur in what we load
    entry = kind === 0 ? number(bytes, entry + 1).next : entry + 3
  }
  return -1
}

/** The same module with its memory, its own or imported, shared. */
export const sharing = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => {
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at]!
    const size = number(bytes, at + 1)
    const end = size.next + size.value
    const found = id === IMPORTS || id === MEMORIES ? declaration(bytes, id, size.next) : -1
    if (found >= 0) {
      const { limits, next } = sharedLimits(bytes, found)
      const content = [...bytes.subarray(size.next, found), ...limits, ...bytes.subarray(next, end)]
      const head = [...bytes.subarray(0, at), id, ...leb(content.length), ...content]
      const out = new Uint8Array(head.length + bytes.length - end)
      out.set(head)
      out.set(bytes.subarray(end), head.length)
      return out
    }
    at = end
  }
  return Uint8Array.from(bytes)
}

/** The module as this memory wants it declared. */
export const fitting = (bytes: Uint8Array<ArrayBuffer>, memory: WebAssembly.Memory): Uint8Array<ArrayBuffer> =>
  isShared(memory.buffer) ? sharing(bytes) : bytes

export const isShared = (buffer: ArrayBufferLike): boolean =>
  typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer

/** Whether this engine gives out shared memories of the size that tfjs's module asks for. */
export const canShare = (): boolean => {
  if (typeof SharedArrayBuffer === 'undefined') return false
  try {
    return isShared(new WebAssembly.Memory({ initial: 1, maximum: PAGES, shared: true }).buffer)
  } catch {
    return false
  }
}
