import { lora, xLora } from '@weftjs/lora'
import { attach, tunedOf } from '@weftjs/model'
import type { Params } from '@weftjs/spec'
import { concat, dispose, mapParams, rng, zerosLike } from '@weftjs/tensor'
import { type Claim, type Lab, LINEARS, type Recipe } from '../lab.ts'
import { lossOnBoth, trainedOn } from '../two-tasks.ts'

/** mixes LoRAs that are trained already */
export const recipe: Recipe | null = null

const SIZE = { rank: 8, alpha: 8 } as const

/** how much less is lost once the gate of two LoRAs, each of a task of its own, has trained on both tasks */
const margin = async (seed: number, lab: Lab): Promise<number> => {
  const experts: Params[] = []
  for (const task of [0, 1]) {
    const tuned = attach(lab.network, [{ adapter: lora(SIZE), at: LINEARS }], rng(seed).fork(`task ${task}`))
    experts.push(await trainedOn(tuned, [task], seed, lab))
  }
  const at = ['model', 'norm', 'head', LINEARS]
  const empty = attach(lab.network, [{ adapter: xLora({ experts: 2, ...SIZE }), at }], rng(seed).fork('gate'))
  const constants = mapParams(empty.constants, (t, name) => {
    const [, site, part] = /^(.*)\.x-lora\.([ab])$/.exec(name) ?? []
    if (site === undefined) return t
    const own = experts.map((p) => p[`${site}.lora.${part}`]!)
    return concat(own, part === 'a' ? 0 : 1)
  })
  const mixed = tunedOf({ ...empty, constants })
  // a gate of zeros gives each a half
  const even = mapParams(mixed.params, (t) => zerosLike(t))
  const gated = await trainedOn(mixed, [0, 1], seed, lab)
  const less = (await lossOnBoth(mixed, even, lab)) - (await lossOnBoth(mixed, gated, lab))
  const made = [...experts, empty.constants, constants, even, gated, mixed.params].flatMap((p) => Object.values(p))
  dispose([...new Set(made)].filter((t) => !t.isDisposed))
  return less
}

export const claim: Claim = {
  says: 'LoRAs of several tasks, mixed by what each token is part of, do better on all of them than mixed evenly',
  metric: 'mean loss over two tasks of both LoRAs at a half each, less that of the gated ones',
  margin,
}
