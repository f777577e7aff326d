import type { Rng } from '@weftjs/spec'

/** What a transfer asks of models, as plain functions: X an input, Y an answer. Each may load what it needs and let it go. */
export interface TransLoraParts<X, Y> {
  /** the target's base, prompted with some of the seeds, makes an input */
  generate(seeds: readonly X[], rng: Rng): X | Promise<X>
  /** chance that an input is a real one, by the discriminator made beside the source's adapter; without it all are taken */
  real?(input: X): number | Promise<number>
  /** the source's base with its adapter answers */
  teach(input: X): Y | Promise<Y>
}
export interface TransLoraOptions {
  /** accepted inputs wanted, all different: as many as the source had is the paper's choice */
  readonly count: number
  /** inputs that are made at most; ten times as many by default */
  readonly budget?: number
  /** an input is taken where its chance of being real is above this */
  readonly threshold?: number
  /** seeds in a prompt; more of them are drawn from in turn */
  readonly shots?: number
  readonly signal?: AbortSignal
}
export interface Transferred<X, Y> {
  readonly examples: readonly { readonly input: X; readonly output: Y }[]
  /** inputs made, of those taken as real, and of those new */
  readonly made: number
  readonly taken: number
  /** taken/made */
  readonly rate: number
}

const keyOf = (x: unknown): string => (typeof x === 'string' ? x : JSON.stringify(x))

/**
 * (x, y) for an adapter on another base: x ~ target(seeds), kept where discriminator(x) > ½, y = (source + adapter)(x)  —  Wang et al., arXiv:2405.17258
 *
 * The task's own data is not needed: some inputs as seeds are. Train the target's adapter, of any kind, on what comes back. The same rng gives the same examples. Inputs are made and
 * judged first and answered after, so that the two bases need not be held at once.
 * @family lora
 * @throws Error without a seed, and where the budget ends before anything was taken, with the rate of acceptance
 */
export const transLora = async <X, Y>(
  seeds: readonly X[],
  { generate, real, teach }: TransLoraParts<X, Y>,
  rng: Rng,
  { count, budget = 10 * count, threshold = 0.5, shots = 5, signal }: TransLoraOptions,
): Promise<Transferred<X, Y>> => {
  if (!seeds.length)
    throw new Error('transLora: there is no seed to begin from; give some inputs of the task, five in the paper')
  for (const [what, n] of Object.entries({ count, budget, shots }))
    if (!Number.isInteger(n) || n < 1)
      throw new Error(`transLora: ${what} must be a whole number of at least 1, found ${n}`)
  const accepted = new Map<string, X>()
  let [made, taken] = [0, 0]
  for (; made < budget && accepted.size < count; made++) {
    signal?.throwIfAborted()
    const own = rng.fork(made)
    const input = await generate(drawn(seeds, shots, own.fork('seeds')), own.fork('input'))
    if (real && !((await real(input)) > threshold)) continue
    taken++
    if (!accepted.has(keyOf(input))) accepted.set(keyOf(input), input)
  }
  const rate = made ? taken / made : 0
  if (!accepted.size)
    throw new Error(
      `transLora: none of ${made} inputs was taken as real (rate ${rate}); lower threshold, raise budget or train the discriminator longer`,
    )
  const examples: { input: X; output: Y }[] = []
  for (const input of accepted.values()) {
    signal?.throwIfAborted()
    examples.push({ input, output: await teach(input) })
  }
  return { examples, made, taken, rate }
}

/** n of the seeds, in an order drawn anew */
const drawn = <X>(seeds: readonly X[], n: number, rng: Rng): X[] => {
  const order = [...rng.numbers(seeds.length)].map((u, i) => [u, i] as const).sort(([a, i], [b, j]) => a - b || i - j)
  return order.slice(0, n).map(([, i]) => seeds[i]!)
}

/**
 * What the discriminator learns from while the task's data is at hand: real inputs (1) and as many that the source's base
 * made from the seeds (0), in an order drawn from rng.
 */
export const realOrMade = async <X>(
  data: readonly X[],
  seeds: readonly X[],
  generate: TransLoraParts<X, unknown>['generate'],
  rng: Rng,
  { shots = 5 }: Pick<TransLoraOptions, 'shots'> = {},
): Promise<{ readonly input: X; readonly real: 0 | 1 }[]> => {
  if (!data.length || !seeds.length)
    throw new Error('realOrMade: needs inputs of the task and seeds among them, found none')
  const rows: { input: X; real: 0 | 1 }[] = data.map((input) => ({ input, real: 1 }))
  for (const i of data.keys()) {
    const own = rng.fork(i)
    rows.push({ input: await generate(drawn(seeds, shots, own.fork('seeds')), own.fork('input')), real: 0 })
  }
  return drawn(rows, rows.length, rng.fork('order'))
}
