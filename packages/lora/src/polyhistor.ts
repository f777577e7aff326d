import type { Adapter, InitContext, Rng, RunContext, Site, Tensor, Tensor2D } from '@weftjs/spec'
import { add, broadcastTo, eye, gatherRows, linear, matMul, reshape, transpose, zeros } from '@weftjs/tensor'
import { ACTIVATIONS, activated, type Hidden } from './shared/bottleneck.ts'
import { mustBeWhole } from './shared/start.ts'

export interface PolyhistorOptions {
  /** T; a batch says in `inputs.task`, [1] or [B] int32, which task each row is of */
  readonly tasks?: number
  /** k, numbers that describe a task */
  readonly embedding?: number
  /** q, rank of what the generator makes */
  readonly rank?: number
  /** hidden units are the width over this */
  readonly reduction?: number
  /** one generator for all layers, and a small matrix for each that scales what it makes (Polyhistor-Lite) */
  readonly lite?: boolean
  /** C₀, the width that the common generator is for: by default the least among the sites */
  readonly template?: number
  readonly activation?: Hidden
}
export interface PolyhistorState extends Record<string, Tensor> {
  /** of Lite: K [f, f] of the way down and of the way up, f = C/C₀ */
  scaleDown?: Tensor2D
  scaleUp?: Tensor2D
  /** of Polyhistor: W_P and W_Q of both ways, [b·q, k], [q·C, k], [C·q, k], [q·b, k] */
  pd?: Tensor2D
  qd?: Tensor2D
  pu?: Tensor2D
  qu?: Tensor2D
}

const KEYS = ['pd', 'qd', 'pu', 'qu'] as const

/** [width that is generated, f]. @throws Error where the template's is no divisor by a power of two */
const grid = ({ name, out }: Site, template: number): [c: number, f: number] => {
  const f = out / template
  if (!Number.isInteger(Math.log2(f)) || f < 1)
    throw new Error(
      `${name}: width ${out} is not ${template} times a power of two; choose another template or narrow "at"`,
    )
  return [template, f]
}

/** numbers that train at a site: 2·k·q·(C + b), b = C/reduction; of Lite 2·(C/C₀)². Common are T·k, and Lite's generator */
export const trainable = (site: Site, options: PolyhistorOptions = {}): number => {
  const { embedding = 64, rank = 8, reduction = 8, lite = true, template = site.out } = options
  return lite ? 2 * grid(site, template)[1] ** 2 : 2 * embedding * rank * (site.out + site.out / reduction)
}

/** y + U_t·gelu(D_t·y), D_t = K ⊗ (P(v_t)·Q(v_t)) made from an embedding v_t of the task  —  Liu et al., arXiv:2210.03265 */
export const polyhistor = (options: PolyhistorOptions = {}): Adapter<PolyhistorState> => {
  const { tasks = 1, embedding = 64, rank = 8, reduction = 8, lite = true, activation = 'gelu' } = options
  for (const [what, n] of Object.entries({ tasks, embedding, rank, reduction })) mustBeWhole('polyhistor', what, n)
  if (!ACTIVATIONS.includes(activation))
    throw new Error(`polyhistor: there is no activation '${activation}'; there are ${ACTIVATIONS.join(', ')}`)
  const templateOf = (sites: readonly Site[]): number => options.template ?? Math.min(...sites.map((s) => s.out))
  /**
   * W_P is zero on the way up, so that nothing changes at first. The paper does not say how the rest begins: here so that a
   * made D has numbers as large as 1/√C, since small ones all along leave no gradient that counts.
   */
  const generator = (c: number, rng: Rng): Record<(typeof KEYS)[number], Tensor2D> => {
    const [k, b] = [embedding, c / reduction]
    const normal = (n: number, variance: number): Tensor2D => rng.normal([n, k], Math.sqrt(variance / k)) as Tensor2D
    return {
      ...{ pd: normal(b * rank, 1 / rank), qd: normal(rank * c, 1 / c) },
      ...{ pu: zeros([c * rank, k]) as Tensor2D, qu: normal(rank * b, 1 / b) },
    }
  }
  const begin = (site: Site, { rng, sites, shared }: InitContext): PolyhistorState => {
    const [c, f] = grid(site, lite ? templateOf(sites) : site.out)
    if (c % reduction)
      throw new Error(`${site.name}: reduction ${reduction} does not divide ${c}; choose one that does`)
    if (rank > c / reduction)
      throw new Error(
        `${site.name}: rank ${rank} exceeds the ${c / reduction} hidden units of width ${c}; lower rank or reduction`,
      )
    shared('tasks', (rng) => rng.normal([tasks, embedding]), { trains: true })
    if (!lite) return generator(c, rng)
    for (const key of KEYS) shared(key, (rng) => generator(c, rng)[key], { trains: true })
    const near = (): Tensor2D => add(eye(f), rng.normal([f, f], 0.02)) as Tensor2D
    return { scaleDown: near(), scaleUp: near() }
  }
  /** embeddings of the batch's tasks [1 or B, k] */
  const described = ({ site, inputs, shared }: RunContext, B: number): Tensor => {
    const { task } = inputs
    if (!task && tasks > 1)
      throw new Error(`${site.name}: ${tasks} tasks are told apart here; say in inputs.task which one each row is of`)
    if (!task) return shared['tasks']!
    if (task.size !== 1 && task.size !== B)
      throw new Error(
        `${site.name}: inputs.task names ${task.size} tasks for a batch of ${B} rows; name one, or one for each`,
      )
    return gatherRows(shared['tasks']!, reshape(task, [-1]))
  }
  return {
    name: 'polyhistor',
    options: { ...options },
    init: (site, ctx) => ({ state: begin(site, ctx) }),
    // the generator runs at each site: two products of k numbers per row, less than keeping what it made for all of them
    around: (next, x, state, ctx) => {
      const y = next(x)
      const [B, T, C] = y.shape as [number, number, number]
      const v = described(ctx, B)
      const f = state.scaleDown?.shape[0] ?? 1
      const c = C / f
      const w = c / reduction
      const made = (key: (typeof KEYS)[number], rows: number): Tensor =>
        reshape(linear(v, state[key] ?? (ctx.shared[key] as Tensor2D)), [v.shape[0]!, rows, -1])
      /** (K ⊗ P·Q)·z for z [B, T, f·n]: K mixes the f parts, P·Q [1 or B, m, n] acts on each */
      const act = (z: Tensor, k: Tensor2D | undefined, p: Tensor, q: Tensor): Tensor => {
        const parts = reshape(z, [B, T * f, -1]) // [B, T·f, n]
        const each = (m: Tensor): Tensor => transpose(broadcastTo(m, [B, m.shape[1]!, m.shape[2]!]), [0, 2, 1])
        const inner = matMul(matMul(parts, each(q)), each(p)) // [B, T·f, m]
        const m = inner.shape[2]!
        if (!k) return inner
        const mixed = linear(transpose(reshape(inner, [B, T, f, m]), [0, 1, 3, 2]), k) // [B, T, m, f]
        return reshape(transpose(mixed, [0, 1, 3, 2]), [B, T, f * m])
      }
      const hidden = activated(act(y, state.scaleDown, made('pd', w), made('qd', rank)), activation) // [B, T, f·w]
      return add(y, act(hidden, state.scaleUp, made('pu', c), made('qu', rank)))
    },
  }
}
