import { CheckpointError, reading } from './error.ts'

/** Bytes that can be read in pieces: a file, a Blob, a URL. */
export interface ByteSource {
  /** bytes in all */
  readonly size: number
  /** for messages */
  readonly name: string
  /** bytes [start, end), exactly; the array may be a view of the source, so do not write into it */
  read(start: number, end: number): Promise<Uint8Array>
  /** fills `target` with the bytes from `start` on, where that saves a copy */
  readInto?(start: number, target: Uint8Array): Promise<void>
  close?(): Promise<void> | void
}

/** @throws CheckpointError when [start, end) is not within the source */
export const checkRange = (start: number, end: number, { size, name }: Pick<ByteSource, 'size' | 'name'>): void => {
  if (!(Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end && end <= size))
    throw new CheckpointError(`bytes ${start} to ${end} asked of ${size}`, { file: name })
}

/** Bytes in memory; reads are views. */
export const fromBytes = (bytes: Uint8Array | ArrayBuffer, name = 'bytes'): ByteSource => {
  // a plain view: what reads it may `slice` a copy, and Node's Buffer would hand out another view
  const all = bytes instanceof Uint8Array ? plainBytes(bytes) : new Uint8Array(bytes)
  const source = { size: all.byteLength, name }
  return {
    ...source,
    read: async (start, end) => {
      checkRange(start, end, source)
      return all.subarray(start, end)
    },
  }
}

/** the same bytes, and no Buffer */
export const plainBytes = ({ buffer, byteOffset, byteLength }: Uint8Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

/** A Blob or a picked File, read slice by slice. */
export const fromBlob = (blob: Blob, name: string = 'name' in blob ? String(blob.name) : 'blob'): ByteSource => {
  const source = { size: blob.size, name }
  return {
    ...source,
    read: async (start, end) => {
      checkRange(start, end, source)
      const remedy = 'the file may have changed or gone since it was picked: pick it again'
      const buffer = await reading({ file: name }, () => blob.slice(start, end).arrayBuffer(), remedy)
      if (buffer.byteLength !== end - start)
        throw new CheckpointError(`${buffer.byteLength} of ${end - start} bytes came; ${remedy}`, { file: name })
      return new Uint8Array(buffer)
    },
  }
}

/** A file of the origin private file system, on a page or in a worker: as it was when opened. */
export const fromOpfs = async (handle: FileSystemFileHandle): Promise<ByteSource> =>
  fromBlob(
    await reading({ file: handle.name }, () => handle.getFile(), 'another tab may hold it open: close that'),
    handle.name,
  )
