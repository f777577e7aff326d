import type { Params, Rng, Scalar, Tensor } from '@weftjs/spec'
import {
  add,
  cast,
  div,
  eye,
  fill,
  keep,
  matMul,
  max,
  mul,
  oneHot,
  ones,
  relu,
  reshape,
  slice,
  sqrt,
  square,
  sub,
  sum,
  tensor,
  topk,
  transpose,
  untaped,
} from '@weftjs/tensor'

export interface PrototypeOptions {
  readonly classes: number
  /** J prototypes of each class */
  readonly each?: number
  /** the class token stands first, and is taken away from each patch */
  readonly focal?: boolean
  /** the mean of so many best patches in place of the best */
  readonly best?: number
  /** side of a square grid of patches that is made twice as fine before they are compared; none by default */
  readonly upsample?: number
}
/** What trains, the encoder frozen. */
export interface PrototypeState extends Params {
  /** P [C·J, D] */
  readonly prototypes: Tensor
  /** w [C, J], read as max(w, 0) */
  readonly weight: Tensor
  /** [C] */
  readonly bias: Tensor
}
export interface PrototypeHead {
  readonly params: PrototypeState
  /** token embeddings [B, T, D] after the last norm → logits [B, C], and the activation of each prototype [B, C, J] */
  run(params: PrototypeState, tokens: Tensor): { logits: Tensor; activations: Tensor }
  /** Σ over classes of ‖N·Nᵀ − I‖ over the number of its entries, N a class's prototypes of length 1; added to the loss */
  orthogonality(params: PrototypeState): Scalar
}

const EPS = 1e-4
/** x/(‖x‖ + ε) over the last axis */
const unit = (x: Tensor): Tensor => div(x, add(sqrt(add(sum(square(x), -1, true), 1e-12)), EPS))

/** weights [2n, n] of bilinear interpolation to twice as many places, corners not aligned */
const finer = (n: number): number[] =>
  Array.from({ length: 2 * n }, (_, i) => {
    const at = Math.min(Math.max((i + 0.5) / 2 - 0.5, 0), n - 1)
    const low = Math.min(Math.floor(at), n - 1)
    return Array.from({ length: n }, (_, j) => (j === low ? 1 - (at - low) : j === low + 1 ? at - low : 0))
  }).flat()

/**
 * logit_c = Σⱼ max(w_cj, 0)·maxₚ relu(cos(z_p, P_cj)) + b_c: prototypes of a class look for their patch among the tokens of a frozen encoder  —  Rauch et al., arXiv:2504.12880
 *
 * The authors divide their cosine by 1.01, which is kept, so that a weight means what theirs does.
 * @family lora
 */
export const prototypeHead = (
  width: number,
  { classes: C, each: J = 20, focal = true, best = 1, upsample }: PrototypeOptions,
  rng: Rng,
): PrototypeHead => {
  for (const [what, n] of Object.entries({ classes: C, each: J, best, ...(upsample !== undefined && { upsample }) }))
    if (!Number.isInteger(n) || n < 1)
      throw new Error(`prototypes: ${what} must be a whole number of at least 1, found ${n}`)
  const fine = upsample === undefined ? undefined : keep(tensor(finer(upsample), [2 * upsample, upsample]))
  /** z [B, n², D] → [B, 4·n², D] */
  const spread = (z: Tensor): Tensor => {
    const n = upsample!
    const [B, T, D] = z.shape as [number, number, number]
    if (T !== n * n) throw new Error(`prototypes: ${T} patches are no grid of ${n} by ${n}; give the side of yours`)
    const down = matMul(fine!, reshape(z, [B, n, n * D])) // [B, 2n, n·D]
    const across = matMul(fine!, reshape(down, [B * 2 * n, n, D])) // [B·2n, 2n, D]
    return reshape(across, [B, 4 * n * n, D])
  }
  return {
    params: {
      prototypes: rng.fork('prototypes').uniform([C * J, width]),
      weight: ones([C, J]),
      bias: fill([C], -2),
    },
    run: ({ prototypes, weight, bias }, tokens) => {
      const [B, T, D] = tokens.shape as [number, number, number]
      if (D !== prototypes.shape[1])
        throw new Error(
          `prototypes: tokens are ${D} wide, prototypes ${prototypes.shape[1]}; take the tokens of the encoder they are for`,
        )
      const patches = focal ? sub(slice(tokens, [0, 1, 0], [B, T - 1, D]), slice(tokens, [0, 0, 0], [B, 1, D])) : tokens
      const z = upsample === undefined ? patches : spread(patches) // [B, P, D]
      const cosines = mul(matMul(unit(z), transpose(unit(prototypes))), 1 / 1.01) // [B, P, C·J]
      const scored = relu(cosines)
      const found = best === 1 ? max(scored, 1) : meanOfBest(transpose(scored, [0, 2, 1]), best) // [B, C·J]
      const activations = reshape(found, [B, C, J])
      return { activations, logits: add(sum(mul(activations, relu(weight)), 2), bias) }
    },
    orthogonality: ({ prototypes }) => {
      const n = unit(reshape(prototypes, [C, J, -1])) // [C, J, D]
      const off = sub(matMul(n, n, false, true), eye(J)) // [C, J, J]
      return div(sqrt(add(sum(square(off)), 1e-12)), off.size) as Scalar
    },
  }
}

/** mean of the k largest of x [B, N, P] over the last axis: [B, N] */
const meanOfBest = (x: Tensor, k: number): Tensor => {
  const [B, N, P] = x.shape as [number, number, number]
  if (k > P) throw new Error(`prototypes: best ${k} exceeds ${P} patches; lower it`)
  const mask = untaped(() => {
    const { indices } = topk(reshape(x, [B * N, P]), k)
    return P === 1 ? ones([B, N, P]) : reshape(sum(oneHot(cast(indices, 'int32') as never, P), 1), [B, N, P])
  })
  return div(sum(mul(x, mask), 2), k)
}
