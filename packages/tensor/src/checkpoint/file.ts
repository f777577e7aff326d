import { rmSync } from 'node:fs'
import { type FileHandle, open as openFile, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { CheckpointError, reason } from './error.ts'
import { absent, type Folder, readText, safeParts } from './folder.ts'
import { type ShardOptions, writeSharded } from './shard.ts'
import type { Sink } from './sink.ts'
import { type ByteSource, checkRange } from './source.ts'
import { type Metadata, type TensorSource, writeSafetensors } from './write.ts'

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code
const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder; check the path',
  ENOTDIR: 'part of the path is a file; check the path',
  EISDIR: 'it is a folder; name a file in it',
  EACCES: 'not permitted; check owner and mode',
  EROFS: 'the disk is read-only; choose another folder',
  ENOSPC: 'the disk is full; free some space',
}
const failed = (file: string, error: unknown): CheckpointError =>
  new CheckpointError(REMEDIES[codeOf(error) ?? ''] ?? reason(error), { file }, { cause: error })

/** A file on disk, held open until `close`. @throws CheckpointError when there is none */
export const fromFile = async (path: string): Promise<ByteSource> => {
  let handle: FileHandle | undefined
  let size: number
  try {
    handle = await openFile(path, 'r')
    const info = await handle.stat()
    if (info.isDirectory()) throw Object.assign(new Error('a folder'), { code: 'EISDIR' })
    size = info.size
  } catch (error) {
    await handle?.close()
    throw failed(path, error)
  }
  const file = handle
  const source = { size, name: path }
  let closed = false
  const readInto = async (start: number, target: Uint8Array): Promise<void> => {
    checkRange(start, start + target.byteLength, source)
    if (closed) throw new CheckpointError('already closed; open it again', { file: path })
    for (let done = 0; done < target.byteLength; ) {
      // one system call reads at most 2³¹ bytes
      const length = Math.min(target.byteLength - done, 1 << 30)
      const { bytesRead } = await file.read(target, done, length, start + done)
      if (bytesRead === 0)
        throw new CheckpointError(
          `ends at byte ${start + done}, it was ${size} bytes long when opened; open it again`,
          {
            file: path,
          },
        )
      done += bytesRead
    }
  }
  return {
    ...source,
    readInto,
    read: async (start, end) => {
      checkRange(start, end, source)
      const bytes = new Uint8Array(end - start)
      await readInto(start, bytes)
      return bytes
    },
    close: async () => {
      if (closed) return
      closed = true
      await file.close()
    },
  }
}

/** A folder on disk. Links are followed, as in the Hugging Face cache. */
export const nodeFolder = (path: string): Folder => {
  const pathOf = (file: string): string => join(path, ...safeParts(file, path))
  const list = async (): Promise<string[]> => (await readdir(path).catch(() => [])).sort()
  const open = async (file: string): Promise<ByteSource> => {
    try {
      return await fromFile(pathOf(file))
    } catch (error) {
      if (error instanceof CheckpointError && codeOf(error.cause) === 'ENOENT') throw absent(path, file, await list())
      throw error
    }
  }
  return {
    name: path,
    open,
    has: async (file) => {
      const target = pathOf(file)
      return stat(target).then(
        (info) => info.isFile(),
        (error) => {
          if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return false
          throw failed(target, error)
        },
      )
    },
    text: async (file) => readText(await open(file)),
    list,
  }
}

interface Staged extends Sink {
  /** gives the temporary file its name */
  commit(): Promise<void>
}
let count = 0
/** temporary files that are being written: they go when the process does */
const unfinished = new Set<string>()
const sweep = (): void => {
  for (const path of unfinished) rmSync(path, { force: true })
}
let around: () => () => void = () => () => {}
let leave = (): void => {}
/**
 * Has `begin` called when the first file begins to be written, and what it returns when none is being written any more: a
 * process that a signal ends at once leaves its temporary files, one that ends by `process.exit` does not.
 */
export const aroundWrites = (begin: () => () => void): void => {
  around = begin
}
const began = (path: string): void => {
  if (!unfinished.size) {
    process.once('exit', sweep)
    leave = around()
  }
  unfinished.add(path)
}
const ended = (path: string): void => {
  if (!unfinished.delete(path) || unfinished.size) return
  process.off('exit', sweep)
  leave()
}
/** bytes after which the disk is told to take what it has been given */
const SETTLED = 1 << 25

/** a file under a temporary name beside its own; `close` only makes it safe on disk */
const stage = async (path: string): Promise<Staged> => {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${count++}.part`)
  const handle = await openFile(temporary, 'wx').catch((error) => {
    throw failed(path, error)
  })
  began(temporary)
  let isOpen = true
  let end = 0
  let loose = 0
  // the disk is at work while the next pieces are made; an error is `close`'s to tell
  let settling: Promise<unknown> | undefined
  let lost: unknown
  const settle = (): void => {
    loose = 0
    settling = handle
      .datasync()
      .catch((error: unknown) => {
        lost ??= error
      })
      .finally(() => {
        settling = undefined
      })
  }
  const release = async (): Promise<void> => {
    await settling
    if (isOpen) await handle.close()
    isOpen = false
  }
  const writeAt = async (at: number, chunk: Uint8Array): Promise<void> => {
    try {
      for (let done = 0; done < chunk.byteLength; ) {
        const length = Math.min(chunk.byteLength - done, 1 << 30)
        done += (await handle.write(chunk, done, length, at + done)).bytesWritten
      }
      loose += chunk.byteLength
      if (loose >= SETTLED && !settling) settle()
    } catch (error) {
      throw failed(path, error)
    }
  }
  return {
    writeAt,
    write: async (chunk) => {
      const at = end
      end += chunk.byteLength
      await writeAt(at, chunk)
    },
    close: async () => {
      await settling
      await handle.sync()
      if (lost) throw failed(path, lost)
      await release()
    },
    abort: async () => {
      await release()
      await rm(temporary, { force: true })
      ended(temporary)
    },
    commit: async () => {
      await rename(temporary, path).catch((error) => {
        throw failed(path, error)
      })
      ended(temporary)
      await syncFolder(dirname(path))
    },
  }
}

/** makes a rename last through a power cut, where the system can */
const syncFolder = async (path: string): Promise<void> => {
  const handle = await openFile(path, 'r').catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

/** A file on disk that appears, or replaces the old one, complete, on `close`. */
export const fileSink = async (path: string): Promise<Sink> => {
  const { commit, close, ...rest } = await stage(path)
  return {
    ...rest,
    close: async () => {
      await close()
      await commit()
    },
  }
}

/** Writes a safetensors file under a temporary name and then in one step under its own; on failure nothing changes. */
export const saveSafetensors = async (
  path: string,
  tensors: readonly TensorSource[],
  metadata: Metadata = {},
): Promise<void> => writeSafetensors(await fileSink(path), tensors, metadata)

/**
 * Writes a checkpoint into a folder, in shards where it is larger than one. All files are complete under temporary
 * names before the first takes its own; then files of an earlier checkpoint of this stem that are left over go.
 * @returns the names written
 */
export const saveCheckpoint = async (
  folder: string,
  tensors: readonly TensorSource[],
  { metadata = {}, maxShardBytes = 5e9, stem = 'model' }: ShardOptions = {},
): Promise<string[]> => {
  const staged: Staged[] = []
  const create = async (file: string): Promise<Sink> => {
    const made = await stage(join(folder, file))
    staged.push(made)
    return made
  }
  let files: string[]
  try {
    files = await writeSharded(create, tensors, { metadata, maxShardBytes, stem })
    for (const { commit } of staged) await commit()
  } catch (error) {
    for (const { abort } of staged) await abort?.()
    throw error
  }
  for (const file of await readdir(folder)) {
    const rest = file.startsWith(stem) ? file.slice(stem.length) : ''
    const ours = /^(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/.test(rest)
    if (ours && !files.includes(file)) await rm(join(folder, file))
  }
  return files
}
