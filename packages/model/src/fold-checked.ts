import type { Network, Params, Tensor } from '@weftjs/spec'
import { abs, dispose, keep, selectParams, stack, sum, tidy } from '@weftjs/tensor'
import { tensorsOf } from '@weftjs/weight'
import type { FoldOptions, Tuned } from './attach.ts'
import type { TransformerConfig } from './config.ts'

/** Σ|t|, which is finite where all of t is */
const total = (t: Tensor): Tensor => tidy(() => sum(abs(t)))

/** the names whose tensor has a number that is not finite, by one look at the device; the sums are disposed */
const spoilt = async (sums: ReadonlyMap<string, Tensor>): Promise<string[]> => {
  if (!sums.size) return []
  const all = stack([...sums.values()])
  dispose([...sums.values()])
  const values = await all.data()
  all.dispose()
  return [...sums.keys()].filter((_, i) => !Number.isFinite(values[i]!))
}

/**
 * `tuned.fold`, and a look at every tensor that it has made or taken, before it goes into the format of its base: a
 * format of few bits would hide a NaN.
 * @throws Error that names the site, and the adapter which brought what is not finite; nothing is left behind then
 */
export const foldChecked = async (
  tuned: Tuned,
  params: Params = tuned.params,
  { adapters, watch }: FoldOptions = {},
): Promise<Network<TransformerConfig>> => {
  const { network, bound, constants } = tuned
  const acts = (name: string): boolean => adapters?.includes(name) ?? true
  const all = { ...params, ...constants }
  const own = new Set([
    ...Object.values(all),
    ...tensorsOf(network),
    ...bound.flatMap((b) => Object.values(b.base?.parts ?? {})),
  ])
  const fold = (names: readonly string[] | undefined, sums: Map<string, Tensor>): Network<TransformerConfig> =>
    tuned.fold(params, {
      ...(names && { adapters: names }),
      watch: (site, matrix) => {
        sums.set(site, keep(total(matrix)))
        watch?.(site, matrix)
      },
    })
  const drop = (made: Network<TransformerConfig>): void => dispose(tensorsOf(made).filter((t) => !own.has(t)))

  const sums = new Map<string, Tensor>()
  const folded = fold(adapters, sums)
  const whole = selectParams(acts('whole') ? params : {}, (n) => n in network.weights || n in network.vectors)
  for (const [name, t] of Object.entries(whole)) if (!sums.has(name)) sums.set(name, total(t))
  const [site] = await spoilt(sums)
  if (site === undefined) return folded
  drop(folded)
  const fail = (cause: string): never => {
    throw new Error(
      `${site}: holds numbers that are not finite ${cause}; training has diverged or the file is damaged, so go back to an earlier checkpoint`,
    )
  }
  const here = bound.filter((b) => b.site.name === site && acts(b.name)).map((b) => b.name)
  const base = site in whole ? ['whole'] : []
  if (base.length && (await spoilt(new Map([[site, total(whole[site]!)]]))).length) fail('as it was trained')
  // one after the other, until it shows
  for (const [i, name] of here.entries()) {
    const some = new Map<string, Tensor>()
    drop(fold([...base, ...here.slice(0, i + 1)], some))
    if ((await spoilt(some)).includes(site)) fail(`with '${name}' folded in`)
  }
  return fail('once folded')
}
