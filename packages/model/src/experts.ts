import type { Params, Scalar, Tensor } from '@weftjs/spec'
import {
  add,
  cast,
  concat,
  div,
  gatherRows,
  glu,
  greater,
  mul,
  numbersNow,
  oneHot,
  ones,
  reshape,
  sigmoid,
  slice,
  softmax,
  sum,
  tensor1d,
  topk,
  untaped,
} from '@weftjs/tensor'
import type { TransformerConfig } from './config.ts'
import type { Hooks } from './transformer.ts'

/** How the tokens of one layer were sent. */
export interface Routing {
  /** p [..., E] of every expert */
  readonly probabilities: Tensor
  /** 1 for those that were taken, else 0 [..., E] */
  readonly taken: Tensor
}

/** What the experts of one layer need of the model around them. */
export interface Surroundings {
  /** the linear site `${name}` of this layer's MLP at x */
  linear(name: string, x: Tensor): Tensor
  /** is told how tokens were sent */
  route?(routing: Routing): void
  /** every expert runs on the whole of x, for adapters that tell the rows of a batch apart */
  readonly whole: boolean
}

type Experts = NonNullable<TransformerConfig['experts']>

/** indices of the k largest along the last axis: a constant to any gradient */
const largest = (x: Tensor, k: number): Tensor => untaped(() => topk(x, k).indices)

/**
 * Σₑ pₑ·down(f(gate·x) ⊙ up·x) over the k experts of highest probability  —  Shazeer et al., arXiv:1701.06538;
 * Jiang et al., arXiv:2401.04088. x [B, T, D] → [B, T, D].
 *
 * Where the choice can be read at once (cpu, wasm), each expert runs on its own tokens only: the k-fold cost of one
 * expert. On a GPU the choice stays there, and every expert runs on all tokens, with weight 0 where it was not chosen.
 */
export const mixture = (
  { activation }: Pick<TransformerConfig, 'activation'>,
  e: Experts,
  { linear, route, whole }: Surroundings,
): ((x: Tensor) => Tensor) => {
  const mlp = (name: string, x: Tensor): Tensor =>
    linear(`${name}.down`, glu(linear(`${name}.gate`, x), linear(`${name}.up`, x), activation))

  /** y of every expert on all of x, in sum; share [B, T, E] */
  const everywhere = (x: Tensor, share: Tensor): Tensor => {
    const at = share.shape.map(() => 0)
    const one = [...share.shape.slice(0, -1), 1]
    return Array.from({ length: e.count }, (_, i) =>
      mul(mlp(`experts.${i}`, x), slice(share, [...at.slice(1), i], one)),
    ).reduce((a, b) => add(a, b))
  }

  /** the same from each expert's own tokens; chosen [N·k] */
  const apart = (x: Tensor, share: Tensor, chosen: ArrayLike<number>): Tensor => {
    const D = x.shape.at(-1)!
    const N = x.size / D
    const places = Array.from({ length: e.count }, (): number[] => [])
    for (let i = 0; i < chosen.length; i++) places[chosen[i]!]!.push(i)
    const rows = reshape(x, [N, D])
    const index = (values: ArrayLike<number>): Tensor => tensor1d(Int32Array.from(values), 'int32')
    const outputs = places.flatMap((mine, i) =>
      mine.length ? [mlp(`experts.${i}`, gatherRows(rows, index(mine.map((p) => Math.floor(p / e.active)))))] : [],
    )
    const order = new Int32Array(chosen.length) // where the output for a token's j-th expert lies
    places.flat().forEach((place, lies) => {
      order[place] = lies
    })
    const shares = Array.from(chosen, (expert, p) => Math.floor(p / e.active) * e.count + expert)
    const weights = gatherRows(reshape(share, [N * e.count, 1]), index(shares)) // [N·k, 1]
    const y = mul(gatherRows(concat(outputs, 0), index(order)), weights) // [N·k, D]
    return reshape(sum(reshape(y, [N, e.active, D]), 1), x.shape)
  }

  return (x) => {
    const probabilities = softmax(linear('router', x)) // [B, T, E]
    const chosen = largest(probabilities, e.active) // [B, T, k]
    const taken = sum(oneHot(chosen, e.count), -2) // [B, T, E]
    route?.({ probabilities, taken })
    const kept = mul(probabilities, taken)
    const share = e.normalized ? div(kept, sum(kept, -1, true)) : kept
    const now = whole ? undefined : numbersNow(chosen)
    const y = now ? apart(x, share, now) : everywhere(x, share)
    return e.shared ? add(y, mul(mlp('shared', x), sigmoid(linear('shared.router', x)))) : y
  }
}

/** What the load-balancing loss reads of one layer. */
interface Load {
  /** sums over tokens [E] */
  readonly probabilities: Tensor
  readonly taken: Tensor
  /** tokens */
  readonly rows: Tensor
}

/** Sums of one layer's routing over its tokens, those only that `real` [B, T] has as 1. */
const loadOf = ({ probabilities, taken }: Routing, real: Tensor | undefined): Load => {
  const E = taken.shape.at(-1)!
  const weight = real ? reshape(cast(real, 'float32'), [-1, 1]) : ones([taken.size / E, 1]) // [N, 1]
  const total = (x: Tensor): Tensor => sum(mul(reshape(x, [-1, E]), weight), 0) // [E]
  return { probabilities: total(probabilities), taken: total(taken), rows: sum(weight) }
}

/**
 * E·Σₑ fₑ·Pₑ: f the tokens sent to each expert, P the mean of its probability, over the tokens of all layers together;
 * k where the load is even  —  Fedus et al., arXiv:2101.03961 (4)-(6).
 */
const loadBalance = (loads: readonly Load[]): Scalar => {
  const over = (f: (load: Load) => Tensor): Tensor => loads.map(f).reduce((a, b) => add(a, b))
  const rows = over((l) => l.rows)
  const [f, p] = [over((l) => l.taken), over((l) => l.probabilities)].map((x) => div(x, rows)) as [Tensor, Tensor]
  return mul(sum(mul(f, p)), f.size) as Scalar
}

export interface BalanceOptions {
  readonly factor: number | undefined
  readonly training: boolean
  /** are blocks computed again in the backward pass? */
  readonly again: boolean
  readonly inputs: Params
}

/** What a pass has to do for the load-balancing loss, where there is one. @throws Error where blocks are computed again */
export const balancing = (
  { experts }: Pick<TransformerConfig, 'experts'>,
  { factor, training, again, inputs }: BalanceOptions,
): { with(hooks: Hooks): Partial<Hooks>; penalty(): Scalar | undefined } | undefined => {
  const times = factor ?? (training && experts?.balanced ? experts.balance : 0)
  if (!experts || !times) return undefined
  if (again)
    throw new Error(
      'balance: the load-balancing loss reads the router of each layer, which a block that is computed again cannot give; turn recompute off, or set balance to 0',
    )
  const loads: Load[] = []
  const real = inputs['segments'] ? greater(inputs['segments'], 0) : inputs['mask']
  return {
    with: ({ carried }) => ({
      route: (routing) => loads.push(loadOf(routing, real)),
      carried: () => [...(carried?.() ?? []), ...loads.flatMap((l) => Object.values(l) as Tensor[])],
    }),
    penalty: () => (loads.length ? (mul(loadBalance(loads), times) as Scalar) : undefined),
  }
}
