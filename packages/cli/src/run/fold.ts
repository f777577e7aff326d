import { resolve } from 'node:path'
import { foldChecked } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { usage } from '../fail.ts'
import { openFolder, openNetwork, tunedFrom } from '../models.ts'
import { guardOut } from '../out.ts'
import { packedWriter } from '../pack.ts'
import { print, printJson } from '../terminal.ts'

export const fold = async ({ args: [model], text, flag, all }: Call): Promise<number> => {
  const [adapters, out, dtype] = [all('adapter'), text('out'), text('dtype')]
  if (!adapters.length) throw usage('fold needs --adapter DIR')
  if (out === undefined) throw usage('fold needs --out DIR')
  if (dtype !== undefined && dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16')
    throw usage(`--dtype must be F32, F16 or BF16, found '${dtype}'`)
  await startBackend(text('backend'))
  const folder = await openFolder(model!)
  await guardOut(resolve(out), folder)
  const { tuned, params } = await tunedFrom(await openNetwork(folder), adapters)
  const folded = await foldChecked(tuned, params)
  const files = await save(folded, resolve(out), {
    from: folder,
    ...(await packedWriter(folded)),
    ...(dtype && { dtype }),
  })
  if (flag('json')) printJson({ out, files })
  else print(`${out}: ${files.join(', ')}`)
  return 0
}
