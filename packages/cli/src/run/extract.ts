import { resolve } from 'node:path'
import { extractLora } from '@weftjs/lora'
import { match, sitesOf } from '@weftjs/model'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { openFolder, openNetwork } from '../models.ts'
import { guardOut } from '../out.ts'
import { sizeOf, told, writeLora } from '../ready.ts'
import { counted, print, printJson, status, statusDone, warn } from '../terminal.ts'

export const extract = async (call: Call): Promise<number> => {
  const {
    args: [base, tuned, out],
    text,
    flag,
    all,
  } = call
  const size = sizeOf(call, 'extract')
  await startBackend(text('backend'))
  const folders = [await openFolder(base!), await openFolder(tuned!)]
  for (const folder of folders) await guardOut(resolve(out!), folder)
  const before = await openNetwork(folders[0]!)
  const after = await openNetwork(folders[1]!)
  const sites = sitesOf(before)
  const at = all('at')
  const chosen = at.length ? new Set(match(sites, [...at]).map((s) => s.name)) : undefined
  const { deltas, left } = await extractLora(before, after, sites, {
    ...size,
    ...(chosen && { at: (site) => chosen.has(site.name) }),
    onProgress: ({ site, sites, of }) => status(`${counted(sites, of)}  ${site}`),
  })
  statusDone()
  if (!deltas.length)
    throw new Failure(
      `${tuned}: ${left.length ? `differs from ${base} in ${left.slice(0, 3).join(', ')} only, and no LoRA here holds that` : `is ${base} itself: nothing to extract`}`,
    )
  if (left.length)
    warn(
      `left out, since they differ but no LoRA here holds them: ${left.slice(0, 5).join(', ')}${left.length > 5 ? `, … (${left.length})` : ''}`,
    )
  const written = await writeLora(deltas, out!, { base: base! })
  if (flag('json')) printJson({ out, ...written, left })
  else print(told(written, out!))
  return 0
}
