import type { ByteSource } from '@weftjs/tensor/checkpoint'
import { type Gguf, openGguf } from './reader.ts'

/**
 * A file that is opened when it is read and closed after (`() => fromFile(path)`), or a source that is open and that its
 * owner closes.
 */
export type GgufGiven = ByteSource | (() => ByteSource | Promise<ByteSource>)

/** A GGUF file whose header is known, and which is open while someone holds it. */
export interface HeldGguf extends Omit<Gguf, 'close'> {
  /** opens it where nobody has → what lets go of it, once */
  hold(): Promise<() => Promise<void>>
}

/** @throws CheckpointError for a file whose header is no GGUF's */
export const holdGguf = async (given: GgufGiven): Promise<HeldGguf> => {
  if (typeof given !== 'function') return { ...(await openGguf(given)), hold: async () => async () => undefined }
  let holders = 0
  let opened: Promise<Gguf> | undefined
  const hold = async (): Promise<() => Promise<void>> => {
    holders++
    opened ??= Promise.resolve(given()).then(openGguf)
    let held = true
    const release = async (): Promise<void> => {
      if (!held) return
      held = false
      if (--holders) return
      const file = opened
      opened = undefined
      await (await file?.catch(() => undefined))?.close()
    }
    try {
      await opened
    } catch (error) {
      await release()
      throw error
    }
    return release
  }
  const release = await hold()
  const header = await opened!
  await release()
  return {
    ...header,
    read: async (name, from, to) => {
      const done = await hold()
      try {
        return await (await opened!).read(name, from, to)
      } finally {
        await done()
      }
    },
    hold,
  }
}
