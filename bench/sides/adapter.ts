/** An adapter by its recipe in claims/, on a network of a benchmark's shape. */
import { attach, type Calibrated, calibrate, sitesOf, type TransformerConfig, type Tuned } from '@weftjs/model'
import type { Network, Tensor } from '@weftjs/spec'
import { dispose, rng } from '@weftjs/tensor'
import { batchOf, type Recipe, type Setting, textTask } from '../../claims/lab.ts'
import { heldOf } from '../../claims/recipes.ts'
import { allMethods } from '../../tools/source.ts'
import { idsOf } from './shape.ts'

export interface Started {
  readonly recipe: Recipe
  readonly setting: Setting
  readonly tuned: Tuned
  /** of `attach` alone */
  readonly seconds: number
  drop(): void
}

export const started = async (
  method: string,
  bare: Network<TransformerConfig>,
  vocabulary: number,
  length: number,
): Promise<Started> => {
  const { recipe } = await heldOf(allMethods().find((m) => m.family === 'lora' && m.name === method)!)
  if (!recipe) throw new Error(`${method} has no recipe`)
  const network = (await recipe.network?.(bare)) ?? bare
  const ids = [...idsOf(vocabulary, 20_000)]
  const task = textTask('numbers', ids, { length, rows: 1 })
  const setting = { network, sites: sitesOf(network), rng: rng(0), steps: 100, task }
  const attachments = recipe.attachments?.(setting) ?? []
  const statistics = [...new Set(attachments.flatMap((a) => a.adapter.calibrates ?? []))]
  const batch = batchOf([ids.slice(0, length + 1)])
  const seen: Record<string, Calibrated> | undefined = statistics.length
    ? await calibrate(network, [batch], { statistics })
    : undefined
  const whole = recipe.train?.(setting)
  const begun = performance.now()
  const tuned = attach(network, attachments, rng(0), {
    ...(whole?.length && { train: whole }),
    ...(seen && { seen }),
  })
  const seconds = (performance.now() - begun) / 1000
  const drop = (): void => {
    const own = new Set<Tensor>(Object.values(bare.weights).flatMap((w) => Object.values(w.parts)))
    for (const t of Object.values(bare.vectors)) own.add(t)
    const made: Tensor[] = [...Object.values(tuned.params), ...Object.values(tuned.constants)]
    for (const b of tuned.bound) made.push(...Object.values(b.base?.parts ?? {}))
    for (const { tensors } of Object.values(seen ?? {})) made.push(...Object.values(tensors))
    if (network !== bare) for (const w of Object.values(network.weights)) made.push(...Object.values(w.parts))
    dispose([...new Set(made)].filter((t) => !own.has(t) && !t.isDisposed))
  }
  return { recipe, setting, tuned, seconds, drop }
}
