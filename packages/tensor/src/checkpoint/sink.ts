/** Where a file is written, piece after piece. Nothing is visible under the file's name before `close`. */
export interface Sink {
  /** the array may be reused by the caller once the promise is done */
  write(chunk: Uint8Array): Promise<void> | void
  /**
   * The same at a place of its own, in any order and several at a time; a sink is written by this alone or by `write` alone.
   * A writer then asks for tensors in the order that it was given them.
   */
  writeAt?(at: number, chunk: Uint8Array): Promise<void> | void
  /** makes the file visible, complete */
  close(): Promise<void> | void
  /** leaves everything as it was before */
  abort?(): Promise<void> | void
}

/** a browser's files and blobs take no memory that threads share, as the heap of wasm may be */
const unshared = (chunk: Uint8Array): Uint8Array =>
  typeof SharedArrayBuffer !== 'undefined' && chunk.buffer instanceof SharedArrayBuffer ? chunk.slice() : chunk

/** Collects a file in a Blob, which a browser may keep on disk. `blob` is there after `close`. */
export const blobSink = ({ type = 'application/octet-stream' }: { type?: string } = {}): Sink & { blob(): Blob } => {
  let parts: { readonly at: number; readonly blob: Blob }[] = []
  let made: Blob | undefined
  // each chunk is copied at once, into the browser's blob storage
  const writeAt = (at: number, chunk: Uint8Array): void =>
    void parts.push({ at, blob: new Blob([unshared(chunk) as BlobPart]) })
  return {
    writeAt,
    write: (chunk) => writeAt(parts.length, chunk),
    close: () => {
      const inOrder = parts.sort((a, b) => a.at - b.at).map(({ blob }) => blob)
      made = new Blob(inOrder, { type })
      parts = []
    },
    abort: () => {
      parts = []
    },
    blob: () => {
      if (!made) throw new Error('the blob is complete only after close()')
      return made
    },
  }
}

/** Collects several files by name: `open` is what a writer of a folder asks for, `blobs` what it wrote, once all are closed. */
export const blobSinks = (): { open(file: string): Sink; blobs(): Map<string, Blob> } => {
  const sinks = new Map<string, ReturnType<typeof blobSink>>()
  return {
    open: (file) => {
      const sink = blobSink()
      sinks.set(file, sink)
      return sink
    },
    blobs: () => new Map([...sinks].map(([file, sink]) => [file, sink.blob()])),
  }
}

/** what Safari has and TypeScript does not know yet */
interface Movable {
  move?(name: string): Promise<void>
}
interface SyncAccess {
  write(chunk: Uint8Array, options: { at: number }): number
  flush(): void
  close(): void
}

/**
 * A file of the origin private file system. Where `createWritable` exists the browser keeps the old file until `close`;
 * in a worker without it, the bytes go to a temporary file that takes the name on `close`.
 */
export const opfsSink = async (directory: FileSystemDirectoryHandle, file: string): Promise<Sink> => {
  const before = await directory.getFileHandle(file).catch(() => undefined)
  const target = before ?? (await directory.getFileHandle(file, { create: true }))
  const undo = async (): Promise<void> => (before ? undefined : directory.removeEntry(file))
  if ('createWritable' in target) {
    const direct = await target.createWritable()
    return {
      write: (chunk) => direct.write(unshared(chunk) as FileSystemWriteChunkType),
      writeAt: (position, chunk) => direct.write({ type: 'write', position, data: unshared(chunk) as BufferSource }),
      close: () => direct.close(),
      abort: async () => {
        await direct.abort()
        await undo()
      },
    }
  }
  await undo()
  const temporary = `${file}.${Date.now().toString(36)}.part`
  const handle = (await directory.getFileHandle(temporary, { create: true })) as FileSystemFileHandle & Movable
  const access = await (handle as unknown as { createSyncAccessHandle(): Promise<SyncAccess> }).createSyncAccessHandle()
  const writeAt = (at: number, chunk: Uint8Array): void => {
    for (let done = 0; done < chunk.byteLength; ) {
      const n = access.write(chunk.subarray(done), { at: at + done })
      if (n <= 0) throw new Error(`${file}: the browser wrote no more bytes; free some storage`)
      done += n
    }
  }
  let end = 0
  return {
    writeAt,
    write: (chunk) => {
      writeAt(end, chunk)
      end += chunk.byteLength
    },
    close: async () => {
      access.flush()
      access.close()
      if (!handle.move) throw new Error(`${file}: this browser cannot name a finished file; save it as a download`)
      await handle.move(file)
    },
    abort: async () => {
      access.close() // a second close does nothing
      await directory.removeEntry(temporary)
    },
  }
}
