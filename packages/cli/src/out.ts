import { rmdirSync } from 'node:fs'
import { access, constants, realpath, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Folder } from '@weftjs/tensor/checkpoint'
import { Failure } from './fail.ts'

/** folders that a command will make, the innermost first */
const missing: string[] = []

/**
 * Looks whether a result can be written, before anything is computed: asked to make several folders at once, a disk that
 * can only be read says that there is no such folder.
 * @throws a system error where it cannot
 */
export const expectOut = async (path: string): Promise<void> => {
  let there = path
  for (; !(await stat(there).catch(() => undefined)) && dirname(there) !== there; there = dirname(there))
    if (!missing.includes(there)) missing.push(there)
  const info = await stat(there)
  if (there !== path && !info.isDirectory()) throw Object.assign(new Error('a file'), { code: 'ENOTDIR', path })
  await access(there, constants.W_OK)
}

/** Takes away the folders that were made for a result, where a command failed before anything came into them. */
export const dropOut = (): void => {
  for (const path of missing.splice(0))
    try {
      rmdirSync(path)
    } catch {
      // it was not made, or holds something
    }
}

/** @throws Failure where a result would replace the model that it is made from, a system error where it cannot be written */
export const guardOut = async (out: string, model: Folder): Promise<void> => {
  // mini is a name, of no folder here
  const [a, b] = await Promise.all([out, model.name].map((p) => realpath(p).catch(() => undefined)))
  if (a !== undefined && a === b && model.name !== 'mini')
    throw new Failure(
      (await stat(a)).isFile()
        ? `${out}: is the file of the model itself; choose another file for the result`
        : `${out}: is the folder of the model itself; choose another folder for the result`,
    )
  await expectOut(out)
}
