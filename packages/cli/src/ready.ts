import { mkdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Attached, type Delta, PEFT_CONFIG, PEFT_TENSORS, readyLora, type Size, savePeft } from '@weftjs/lora'
import type { Adapter, Site, Tensor } from '@weftjs/spec'
import { rng } from '@weftjs/tensor'
import { fileSink } from '@weftjs/tensor/checkpoint/file'
import type { Call } from './command.ts'
import { usage } from './fail.ts'
import { writeJson } from './files.ts'

/** @throws Failure (exit code 2) where not one of them is given */
export const sizeOf = ({ number }: Call, name: string): Size => {
  const rank = number('rank', { min: 1, whole: true })
  const variance = number('variance', { min: 0, max: 1 })
  if ((rank === undefined) === (variance === undefined))
    throw usage(`${name} needs one of --rank and --variance, found ${rank === undefined ? 'none' : 'both'}`)
  if (variance === 0) throw usage('--variance must be more than 0')
  return rank === undefined ? { variance: variance! } : { rank }
}

/** What was written. */
export interface Written {
  readonly sites: number
  readonly rank: readonly [least: number, most: number]
  readonly parameters: number
  readonly files: readonly string[]
}

/** An adapter that stands on no network: its tensors are those that it begins with. */
export const standing = (sites: readonly Site[], ready: ReturnType<typeof readyLora>): Attached => {
  const params: Record<string, Tensor> = {}
  const name = ready.adapter.name
  const bound = sites.filter(ready.at).map((site) => {
    const prefix = `${site.name}.${name}`
    const context = {
      ...{ rng: rng(0), sites, shared: (_: string, make: (r: never) => never) => make(rng(0) as never) },
      ...{ once: <T>(_: string, make: () => T): T => make(), seen: () => ({}) as never },
    }
    const { state } = ready.adapter.init(site, context as never)!
    for (const [key, t] of Object.entries(state)) params[`${prefix}.${key}`] = t
    return { site, adapter: ready.adapter as Adapter<any>, name, prefix }
  })
  return { network: { config: {}, weights: {}, vectors: {} }, sites, bound, params, constants: {} }
}

/** Deltas as a PEFT folder, whose config names each module in full. */
export const writeLora = async (
  deltas: readonly Delta[],
  out: string,
  about: { base?: string; task?: string | null },
): Promise<Written> => {
  const folder = resolve(out)
  const sites = [...new Map(deltas.map((d) => [d.site.name, d.site])).values()]
  const attached = standing(sites, readyLora(deltas))
  await mkdir(folder, { recursive: true })
  await savePeft((file) => fileSink(join(folder, file)), attached, attached.params, about)
  // ends of names that tell these modules apart here may not do so in the whole model
  const path = join(folder, PEFT_CONFIG)
  const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  await writeJson(path, { ...config, target_modules: sites.map((s) => s.module!).sort() })
  const ranks = deltas.map((d) => d.a.rows)
  return {
    sites: sites.length,
    rank: [Math.min(...ranks), Math.max(...ranks)],
    parameters: Object.values(attached.params).reduce((n, t) => n + t.size, 0),
    files: [PEFT_TENSORS, PEFT_CONFIG],
  }
}

export const told = ({ sites, rank: [least, most], parameters, files }: Written, out: string): string =>
  `${out}: ${files.join(', ')}; LoRA of rank ${least === most ? least : `${least} to ${most}`} at ${sites} matrices, ${parameters.toLocaleString('en')} parameters`
