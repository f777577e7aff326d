import type { Params, Tensor2D } from '@weftjs/spec'
import { concat, keepParams, mul, tidy, zeros, zerosLike } from '@weftjs/tensor'
import { fromMatrix } from '@weftjs/tensor/linalg'
import { under } from '../shared/under.ts'
import { bySite, type Chosen, type Delta, type Standing, scaleOf, stacked } from './factors.ts'

export interface HotSwapOptions extends Chosen {
  /** refuse a rank above the one that runs, so that every tensor keeps its shape */
  readonly strict?: boolean
}

/**
 * Other values for a LoRA that runs: `params` for the next `run`, with nothing attached again. Lower ranks are filled up
 * with zeros, so that shapes stay; scales are folded into B; sites that the new one does not have become zero.
 * @throws Error that names a site which the running one does not adapt, or a matrix of another shape
 */
export const hotSwap = async (
  tuned: Standing,
  deltas: readonly Delta[],
  { params = tuned.params, name, strict = false }: HotSwapOptions = {},
): Promise<Params> => {
  const names = [...new Set(tuned.bound.map((b) => b.name))]
  if (name === undefined && names.length !== 1)
    throw new Error(`hotSwap: which one? there are ${names.join(', ') || 'none'}; give its name`)
  const mine = tuned.bound.filter((b) => b.name === (name ?? names[0]))
  if (!mine.length) throw new Error(`hotSwap: there is no adapter '${name}' here; there are ${names.join(', ')}`)
  const fresh = bySite(deltas)
  const odd = [...fresh.keys()].find((site) => !mine.some((b) => b.site.name === site))
  if (odd !== undefined)
    throw new Error(`${odd}: '${mine[0]!.name}' does not adapt it, and the new one does; attach it beside, with a name`)
  const scales: number[] = []
  for (const b of mine) {
    const state = under(`${b.prefix}.`, tuned.constants, params)
    const scale = await scaleOf(b, state, under(`${b.name}.shared.`, tuned.constants, params))
    if (!scale)
      throw new Error(
        `${b.site.name}: '${b.adapter.name}' is more than a product that is added, so nothing can take its place; attach the new one`,
      )
    scales.push(scale)
  }
  const swapped = tidy(() => {
    const values: Record<string, Tensor2D> = {}
    for (const [i, { site, prefix }] of mine.entries()) {
      const old = { a: params[`${prefix}.a`] as Tensor2D, b: params[`${prefix}.b`] as Tensor2D }
      const list = fresh.get(site.name)
      let [a, b] = [zerosLike(old.a), zerosLike(old.b)] // [r, in], [out, r]
      if (list) {
        const one = stacked(list)
        const [out, input, rank, room] = [one.b.rows, one.a.cols, one.a.rows, old.a.shape[0]]
        if (out !== old.b.shape[0] || input !== old.a.shape[1])
          throw new Error(
            `${site.name}: the new adapter is for a matrix [${out}, ${input}], and this one is [${old.b.shape[0]}, ${old.a.shape[1]}]; it belongs to another model`,
          )
        if (strict && rank > room)
          throw new Error(
            `${site.name}: rank ${rank} does not fit into ${room}; attach the larger one first, or compress this`,
          )
        const [ra, rb] = [fromMatrix(one.a), mul(fromMatrix(one.b), 1 / scales[i]!) as Tensor2D]
        const more = room - rank
        a = (more > 0 ? concat([ra, zeros([more, input])], 0) : ra) as Tensor2D
        b = (more > 0 ? concat([rb, zeros([out, more])], 1) : rb) as Tensor2D
      }
      values[`${prefix}.a`] = a
      values[`${prefix}.b`] = b
    }
    return keepParams(values) as never
  }) as Params
  return { ...params, ...swapped }
}
