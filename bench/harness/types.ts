/** A process that does one measured unit of work at a time, and idles between. */
export interface Side {
  /** what a reader knows it by: `Weft`, `PyTorch + PEFT` */
  readonly label: string
  /** in bench/sides; its ending says what runs it */
  readonly script: `${string}.ts` | `${string}.py`
  /**
   * bundled into JavaScript beforehand, as our users run it: where memory or a start is compared, the loader that compiles
   * TypeScript is no part of us
   */
  readonly compiled?: boolean
  /** what the script is told */
  readonly options?: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string>>
  /** peers without which it cannot run */
  readonly needs?: readonly Peer[]
  /** a name of the environment of tools/swiftshader.mjs: software WebGPU where there is no GPU */
  readonly gpu?: boolean
}
export type Peer = 'torch' | 'peft' | 'bitsandbytes' | 'gguf' | 'jax-js' | 'tfjs'

/** what one unit took, in milliseconds, and whatever else its side counts */
export interface Unit {
  readonly ms: number
  readonly [metric: string]: number
}

/** What a side left behind. */
export interface Ran {
  readonly label: string
  readonly units: readonly Unit[]
  /** peak resident memory, bytes */
  readonly peak: number
  /** what its units computed, in order, those that were not timed too: losses, logits */
  readonly checks: readonly number[]
  readonly facts: Facts
}
/** versions, threads, devices; numbers of its setting up */
export type Facts = Readonly<Record<string, string | number>>

export type Value = (unit: Unit, ran: Ran) => number

/** One line of the report: a number of ours beside one of a peer's. */
export interface RowSpec {
  readonly peer: string
  readonly metric: string
  /** names in `sides`; the same one where a side is measured against a limit of its own */
  readonly ours: string
  readonly theirs: string
  readonly of: Value
  /** what `theirs` has in place of `of` */
  readonly ofTheirs?: Value
  readonly better: 'more' | 'less'
  /** least ratio, above 1 being better for us; none for figures that are only told */
  readonly goal?: number
}

/** Sides that take turns: A B A B. */
export interface Match {
  readonly sides: Readonly<Record<string, Side>>
  readonly rows: readonly RowSpec[]
  readonly rounds?: number
  readonly warmup?: number
  /** sides whose checks differ by more than this, relatively, are not compared */
  readonly agree?: number
}

export interface Bench {
  readonly question: string
  readonly matches: readonly Match[] | (() => Promise<readonly Match[]>)
  /** rows that need more than one match */
  readonly also?: (results: readonly Readonly<Record<string, Ran>>[]) => readonly Row[]
}

/** median, least and most */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface Row {
  readonly peer: string
  readonly metric: string
  readonly ours: Spread | null
  readonly theirs: Spread | null
  /** pair by pair; above 1 is better for us */
  readonly ratio: Spread | null
  readonly goal: number | null
  readonly holds: boolean | null
  /** why a side has no number, and what to do about it */
  readonly missing?: string
}

export interface Report {
  readonly name: string
  readonly question: string
  readonly date: string
  readonly machine: string
  readonly threads: number
  readonly load: readonly [before: number, after: number]
  /** other processes took the cores, and somebody asked to see the figures anyway */
  readonly disturbed: boolean
  readonly rows: readonly Row[]
  readonly sides: readonly Ran[]
}
