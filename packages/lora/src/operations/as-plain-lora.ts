import type { Params, Tensor2D } from '@weftjs/spec'
import {
  abs,
  add,
  div,
  matMul,
  max,
  mul,
  sqrt,
  square,
  stack,
  sub,
  type Tensor,
  tidy,
  sum as total,
} from '@weftjs/tensor'
import { type Matrix, toMatrixAsync } from '@weftjs/tensor/linalg'
import { under } from '../shared/under.ts'
import { type Chosen, chosenBySite, type Delta, type Standing, scaleOf, stacked } from './factors.ts'
import { changeOf } from './on-own-base.ts'

export interface AsPlainLoraOptions extends Chosen {
  /** also where the start's base was packed anew, so that what rounding it did is left out */
  readonly inexact?: boolean
  /** sees what is left out at each site: its Frobenius norm as a share of that of W */
  left?(site: string, share: number): void
}

/** ‖t‖, Frobenius' */
const norm = (t: Tensor): Tensor => sqrt(total(square(t)))

/**
 * What was learned by adapters whose start put a base W' = W − s·B₀·A₀ in place of W (PiSSA, OLoRA, CorDA, LoRA-GA), as a plain
 * LoRA of twice the rank for the original W: s·B·A − s·B₀·A₀ = s·[B, −B₀]·[A; A₀], as PEFT's conversion of a mutated start.
 * `tuned` is what `attach` gave, whose params are the start; `params` are the trained ones. Others are taken as they are.
 * `attach(network, [readyLora(await asPlainLora(tuned, { params }))], rng)`
 *
 * On a packed base (QPiSSA) W' = pack(W − s·B₀·A₀) = W − s·B₀·A₀ + E, and no LoRA of W can say E, which is of full rank: the
 * result is off by E and by nothing else (`inexact`, `left`). `onOwnBase` is exact there, with a base of its own. What is no
 * product of two factors (KaSA) is then taken by the SVD of its change, at twice the rank.
 * @throws Error that names the site of an adapter which is more than base + s·B·A, or whose base is not W − s·B₀·A₀
 */
export const asPlainLora = async (
  tuned: Standing,
  { params = tuned.params, name, inexact = false, left }: AsPlainLoraOptions = {},
): Promise<readonly Delta[]> => {
  const found: Delta[] = []
  for (const [site, list] of chosenBySite(tuned, name))
    for (const { base, ...bound } of list) {
      const values = (from: Params): Params => under(`${bound.prefix}.`, tuned.constants, from)
      const [now, first] = [values(params), values(tuned.params)]
      const scale = await scaleOf(bound, now, under(`${bound.name}.shared.`, tuned.constants, params))
      if (scale === undefined && inexact && base && bound.adapter.weight && now['a']?.rank === 2) {
        const rank = Math.min(2 * now['a'].shape[0]!, ...site.weight!.shape)
        const shared = under(`${bound.name}.shared.`, tuned.constants, params)
        const { rest, ...change } = await changeOf(bound, { base, state: now, shared, rank, from: site.weight! })
        found.push({ site, scale: 1, ...change })
        left?.(site.name, rest)
        continue
      }
      if (scale === undefined)
        throw new Error(
          `${site.name}: '${bound.adapter.name}' is more than a base and a product of two factors; convert it with toLora`,
        )
      const delta = async ({ a, b }: Params): Promise<Delta> => {
        const [A, B] = (await Promise.all([a, b].map((t) => toMatrixAsync(t as Tensor2D)))) as [Matrix, Matrix]
        return { site, a: A, b: B, scale }
      }
      if (!base) {
        found.push(await delta(now))
        continue
      }
      const apart = tidy(() => {
        const w = site.weight!.dense() // [out, in]
        const again = add(base.dense(), mul(matMul(first['b']!, first['a']!), scale)) // [out, in]
        const error = sub(again, w)
        return stack([div(max(abs(error)), max(abs(w))), div(norm(error), norm(w))])
      })
      const [gap, share] = await apart.data()
      apart.dispose()
      if (!inexact && !(gap! < 1e-4))
        throw new Error(
          `${site.name}: the base that '${bound.adapter.name}' began from is not the original less its factors (apart by ${gap!.toExponential(1)} of the largest entry), as where it was rounded to ${site.weight!.format}; keep it on its own base (onOwnBase), fold the adapter, or pass "inexact"`,
        )
      left?.(site.name, share!)
      found.push(stacked([await delta(now), await delta(first)], [1, -1]))
    }
  return found
}
