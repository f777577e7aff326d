import { realpath, stat } from 'node:fs/promises'
import type { Folder } from '@weftjs/tensor/checkpoint'
import { Failure } from './fail.ts'

/** @throws Failure where a result would replace the model that it is made from */
export const guardOut = async (out: string, model: Folder): Promise<void> => {
  const [a, b] = await Promise.all([out, model.name].map((p) => realpath(p).catch(() => undefined)))
  if (a !== undefined && a === b)
    throw new Failure(
      (await stat(a)).isFile()
        ? `${out}: is the file of the model itself; choose another file for the result`
        : `${out}: is the folder of the model itself; choose another folder for the result`,
    )
}
