/** What `npm run claims` finds, as it is kept in claims/results. */

/** mean and standard deviation over the seeds */
export interface Spread {
  readonly mean: number
  readonly sd: number
}
export interface Row {
  readonly method: string
  readonly paper: string
  /** of the paper's sentence: a margin that is above 0 where it holds */
  readonly metric: string | null
  readonly mean: number | null
  readonly sd: number | null
  readonly seeds: number
  readonly claim: string | null
  /** above 0 for every seed */
  readonly holds: boolean | null
  readonly note?: string
  /** of the comparison; null for a method that has no place in it */
  readonly run: {
    readonly rate: number
    readonly loss: Spread
    readonly forgetting: Spread
    readonly milliseconds: number
    readonly peak: number
    readonly trainable: number
    readonly bytes: number
  } | null
  readonly error?: string
}
export interface Table {
  readonly name: string
  readonly date: string
  readonly machine: string
  readonly steps: number
  readonly grid: readonly number[]
  readonly rows: readonly Row[]
}

/** A storage format on one model. */
export interface QuantRow {
  readonly method: string
  readonly model: string
  /** a margin that is above 0 where the claim holds; without a claim the KL itself */
  readonly metric: string | null
  readonly mean: number | null
  readonly sd: number | null
  readonly seeds: number
  readonly claim: string | null
  readonly holds: boolean | null
  readonly run: {
    /** a weight, scales included */
    readonly bits: number
    readonly bytes: number
    /** ‖Q − W‖²/‖W‖²; null where scales moved between layers */
    readonly error: number | null
    /** to the full model, nats a token */
    readonly kl: Spread
    readonly perplexity: Spread
    /** to pack the model; null where no machine was free to measure it on */
    readonly seconds: number | null
    /** of a token that is generated; null as well */
    readonly milliseconds: number | null
    /** most bytes of tensors while packing, beside the dense model */
    readonly peak: number
  } | null
  readonly error?: string
}
/** A claim of what trains in few bits. */
export interface TrainingRow extends Spread {
  readonly method: string
  readonly claim: string
  /** what the margin is, above 0 where the claim holds */
  readonly metric: string
  readonly seeds: number
  readonly holds: boolean
  readonly note?: string
}
export interface QuantTable {
  readonly name: string
  readonly date: string
  readonly machine: string
  /** by the name of the model: numbers in the matrices of its blocks, and the perplexity of the full one */
  readonly models: Readonly<Record<string, { readonly weights: number }>>
  readonly rows: readonly QuantRow[]
  readonly training?: readonly TrainingRow[]
}
