import { resolve } from 'node:path'
import { upcycle } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import { rng } from '@weftjs/tensor'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { openFolder, openNetwork } from '../models.ts'
import { guardOut } from '../out.ts'
import { packedWriter } from '../pack.ts'
import { print, printJson } from '../terminal.ts'

/** numbers of the matrices and vectors, a tied head once */
const parametersOf = ({ weights, vectors }: Awaited<ReturnType<typeof openNetwork>>): number =>
  [...Object.values(weights).map((w) => w.shape), ...Object.values(vectors).map((v) => v.shape)].reduce(
    (n, shape) => n + shape.reduce((a: number, b: number) => a * b, 1),
    0,
  )

/** a dense model as a mixture of experts, each a copy of its MLP */
export const convertToMoe = async ({ args: [model, out], text, number, flag }: Call): Promise<number> => {
  const experts = number('experts', { min: 2, whole: true }) ?? 8
  const active = number('top', { min: 1, whole: true }) ?? 2
  const seed = number('seed', { min: 0, whole: true }) ?? 0
  await startBackend(text('backend'))
  const folder = await openFolder(model!)
  await guardOut(resolve(out!), folder)
  const network = await openNetwork(folder)
  const sparse = upcycle(network, experts, rng(seed), { active })
  const files = await save(sparse, resolve(out!), { from: folder, ...(await packedWriter(sparse)) })
  const [before, after] = [network, sparse].map(parametersOf)
  const type = sparse.config.architecture
  if (flag('json')) printJson({ out, type, experts, top: active, parameters: after, before, files })
  else
    print(
      `${out}: ${type}, ${active} of ${experts} experts for a token, ${before!.toLocaleString('en')} -> ${after!.toLocaleString('en')} parameters`,
    )
  return 0
}
