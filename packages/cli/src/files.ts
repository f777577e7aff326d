import { randomBytes } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'

/** writes beside, then renames: a reader sees the old file or the whole new one */
export const writeBytes = async (path: string, content: Uint8Array | string): Promise<void> => {
  const part = `${path}.tmp-${process.pid}-${randomBytes(4).toString('hex')}`
  try {
    const file = await open(part, 'w')
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(part, path)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}

export const writeWhole = (path: string, text: string): Promise<void> => writeBytes(path, text)
export const writeJson = (path: string, value: unknown): Promise<void> =>
  writeBytes(path, `${JSON.stringify(value, null, 2)}\n`)
