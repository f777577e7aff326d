import type { Network, Params, Tensor2D, Weight } from '@weftjs/spec'
import { dispose, rng as newRng, square, sub, tidy } from '@weftjs/tensor'
import { toMatrixAsync } from '@weftjs/tensor/linalg'
import { dense } from '@weftjs/weight'
import { under } from '../shared/under.ts'
import { compressDense } from './compress.ts'
import { type Chosen, chosenBySite, contextAt, type Delta, type Standing, scaleOf } from './factors.ts'

/** What adapters trained, in two parts that any tool can load. */
export interface OnOwnBase<N extends Network<any>> {
  /** the base that they began from: residuals in place of the matrices they were taken from */
  readonly network: N
  /** LoRAs of their own rank for it: `readyLora(deltas)` */
  readonly deltas: readonly Delta[]
}

/**
 * A start that put a base W' in place of W, as the network with W' and a LoRA for it: what was trained, exactly, also where W'
 * was packed anew (QPiSSA), which no LoRA of the packed W can say. That is how PiSSA's authors publish: the residual as a model,
 * the adapter beside it with `init_lora_weights: true`. Tensors that trained whole stand in the network; no tensor is copied.
 * @throws Error that names the site of an adapter which is more than W' and a product of two factors
 */
export const onOwnBase = async <N extends Network<any>>(
  tuned: Standing & { readonly network: N },
  { params = tuned.params, name }: Chosen = {},
): Promise<OnOwnBase<N>> => {
  const weights: Record<string, Weight> = { ...tuned.network.weights }
  const vectors = { ...tuned.network.vectors }
  for (const [key, value] of Object.entries(params))
    if (key in weights) weights[key] = dense(value as Tensor2D)
    else if (key in vectors) vectors[key] = value
  const deltas: Delta[] = []
  for (const [site, list] of chosenBySite(tuned, name))
    for (const { base, ...bound } of list) {
      const { adapter, prefix } = bound
      const state = under(`${prefix}.`, tuned.constants, params)
      const shared = under(`${bound.name}.shared.`, tuned.constants, params)
      if (base) weights[site.name] = base
      const scale = await scaleOf(bound, state, shared)
      const [a, b] = [state['a'], state['b']] as (Tensor2D | undefined)[]
      if (scale !== undefined) {
        deltas.push({ site, a: await toMatrixAsync(a!), b: await toMatrixAsync(b!), scale })
        continue
      }
      if (!base || !adapter.weight || adapter.around || adapter.attend || a?.rank !== 2)
        throw new Error(
          `${site.name}: '${adapter.name}' is more than a base and a product of two factors; fold the adapter and save the model`,
        )
      const { rest: _, ...change } = await changeOf(bound, { base, state, shared, rank: a.shape[0] })
      deltas.push({ site, scale: 1, ...change })
    }
  const untied = tuned.network.config.tied && weights['head'] !== undefined
  const config = untied ? { ...tuned.network.config, tied: false } : tuned.network.config
  return { network: { ...tuned.network, config, weights, vectors }, deltas }
}

interface Change {
  readonly base: Weight
  readonly state: Params
  readonly shared: Params
  readonly rank: number
  /** the base by default */
  readonly from?: Weight
}

/** what an adapter makes of a matrix, by the SVD of its change, and what that leaves out as a share of the matrix' norm */
export const changeOf = async (
  { site, adapter }: Standing['bound'][number],
  { base, state, shared, rank, from = base }: Change,
): Promise<Pick<Delta, 'a' | 'b'> & { readonly rest: number }> => {
  const [change, before] = tidy(() => {
    const was = from.dense() // [out, in]
    const now = adapter.weight!(base, state, contextAt(site, shared)).dense()
    return [sub(now, was) as Tensor2D, square(was)]
  })
  const all = await toMatrixAsync(change)
  const whole = ((await before.data()) as Float32Array).reduce((n, v) => n + v, 0)
  dispose([change, before])
  const found = compressDense(all, { rank }, site.name, newRng(0).fork(site.name))
  const squares = ({ data }: typeof all): number => data.reduce((n, v) => n + v * v, 0)
  // the columns of U·diag(σ) are orthogonal
  return { ...found, rest: Math.sqrt(Math.max(0, squares(all) - squares(found.b)) / whole) }
}
