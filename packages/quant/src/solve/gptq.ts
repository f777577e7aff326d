import { codeOf, fitGrid, type Grid, valueAt } from './grid.ts'
import { inverseFactor } from './hessian.ts'

export interface GptqOptions extends Grid {
  /** columns that share a scale, a divisor of their number */
  readonly group: number
  /** quantize columns by falling H[i, i]; groups are then of columns that follow in this order */
  readonly actOrder: boolean
  /** groups are of neighbouring columns in any case, and scales are found before the first column is rounded */
  readonly staticGroups: boolean
  /** share of the mean of H's diagonal that is added to it; doubled until H is positive definite */
  readonly damp: number
}
export interface Solved {
  /** [out, in], by stored columns */
  readonly codes: Uint8Array
  /** [out, in/group] */
  readonly scale: Float32Array
  readonly zero: Uint8Array
  /** the column that each stored column is; absent where all are where they were */
  readonly order?: Int32Array
}
type Shape = readonly [out: number, width: number]

/** each weight to its nearest value: what H = I gives */
export const rounded = (w: ArrayLike<number>, [out, width]: Shape, grid: Grid & { group: number }): Solved => {
  const { group, bits } = grid
  const groups = width / group
  const found = {
    codes: new Uint8Array(out * width),
    scale: new Float32Array(out * groups),
    zero: new Uint8Array(out * groups),
  }
  for (let k = 0, i = 0; k < out * groups; k++) {
    const [s, z] = fitGrid(w, i, i + group, grid)
    found.scale[k] = s
    found.zero[k] = z
    for (const end = i + group; i < end; i++) found.codes[i] = codeOf(w[i]!, s, z, 2 ** bits - 1)
  }
  return found
}

/** columns by falling H[i, i], the first of equals first */
const fallingOrder = (h: ArrayLike<number>, n: number): Int32Array => {
  const diagonal = Float64Array.from({ length: n }, (_, i) => h[i * n + i]!)
  return Int32Array.from(diagonal.keys()).sort((a, b) => diagonal[b]! - diagonal[a]! || a - b)
}

/** the same, each group's columns by their number: what can be told from a list of every column's group */
export const sortedInGroups = (order: Int32Array, group: number): Int32Array => {
  const sorted = order.slice()
  for (let i = 0; i < sorted.length; i += group) sorted.subarray(i, i + group).sort()
  return sorted
}

/** rows of W that are worked on together, and columns whose errors are spread together */
const [TILE, BLOCK] = [16, 128]

/**
 * Codes that keep tr(ΔW·H·ΔWᵀ) small: columns are rounded one after the other, and the error of each is made good by
 * those that are left  —  Frantar et al., arXiv:2210.17323, algorithm 1. w [out, in], h [in, in] of any scale.
 * Scales are of the weights as they are when a group's turn comes (AutoGPTQ's code takes older ones within a block).
 * Weights of inputs that are always 0 become 0. @throws Error for an H that is not finite, or not positive definite
 */
export const solveGptq = (
  w: ArrayLike<number>,
  [out, n]: Shape,
  h: ArrayLike<number>,
  { group, actOrder, staticGroups, damp, ...grid }: GptqOptions,
): Solved => {
  for (let i = 0; i < n * n; i++)
    if (!Number.isFinite(h[i]!))
      throw new Error(
        `gptq: E[x·xᵀ] is ${h[i]} at [${Math.floor(i / n)}, ${i % n}]; look for what spoils the activations`,
      )
  const most = 2 ** grid.bits - 1
  const groups = n / group
  const dead = Uint8Array.from({ length: n }, (_, i) => Number(!(h[i * n + i]! > 0)))
  const order = actOrder ? fallingOrder(h, n) : Int32Array.from({ length: n }, (_, i) => i)
  const u = inverseFactor(h, n, order, dead, damp)
  const moved = actOrder && !staticGroups && groups > 1
  /** where a column is stored, by its turn */
  const stored = moved ? sortedInGroups(order, group) : undefined
  const place = new Int32Array(n)
  for (let i = 0; i < n; i++) place[stored ? stored[i]! : i] = i
  const codes = new Uint8Array(out * n)
  const scale = new Float32Array(out * groups)
  const zero = new Uint8Array(out * groups)
  const tile = new Float64Array(TILE * n)
  const errors = new Float64Array(TILE * BLOCK)
  for (let first = 0; first < out; first += TILE) {
    const rows = Math.min(TILE, out - first)
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < n; i++) {
        const column = order[i]!
        tile[r * n + i] = dead[column] ? 0 : w[(first + r) * n + column]!
      }
    if (staticGroups) {
      const row = new Float64Array(n)
      for (let r = 0; r < rows; r++) {
        for (let i = 0; i < n; i++) row[order[i]!] = tile[r * n + i]!
        for (let g = 0; g < groups; g++) {
          const k = (first + r) * groups + g
          ;[scale[k], zero[k]] = fitGrid(row, g * group, (g + 1) * group, grid) as [number, number]
        }
      }
    }
    for (let from = 0, to = 0; from < n; from = to) {
      // whole groups where they are small, and else what is left of one
      to =
        group < BLOCK ? from + group * Math.floor(BLOCK / group) : Math.min(from + BLOCK, from - (from % group) + group)
      to = Math.min(to, n)
      for (let r = 0; r < rows; r++) {
        const at = r * n
        for (let i = from; i < to; i++) {
          const column = order[i]!
          const k = (first + r) * groups + Math.floor((staticGroups ? column : i) / group)
          if (!staticGroups && i % group === 0)
            [scale[k], zero[k]] = fitGrid(tile, at + i, at + i + group, grid) as [number, number]
          const code = codeOf(tile[at + i]!, scale[k]!, zero[k]!, most)
          codes[(first + r) * n + place[column]!] = code
          const e = (tile[at + i]! - valueAt(code, scale[k]!, zero[k]!)) / u[i * n + i]!
          errors[r * BLOCK + i - from] = e
          if (e !== 0) for (let j = i + 1; j < to; j++) tile[at + j]! -= e * u[i * n + j]!
        }
      }
      spread(tile, errors, u, { rows, n, from, to })
    }
  }
  return { codes, scale, zero, ...(stored && { order: stored }) }
}

/** W[:, to:] −= E·U[from:to, to:], four rows of U at a time */
const spread = (
  w: Float64Array,
  errors: Float64Array,
  u: Float64Array,
  { rows, n, from, to }: { rows: number; n: number; from: number; to: number },
): void => {
  let i = from
  for (; i + 3 < to; i += 4) {
    const [p, q, s, t] = [i * n, (i + 1) * n, (i + 2) * n, (i + 3) * n]
    for (let r = 0; r < rows; r++) {
      const k = r * BLOCK + i - from
      const [a, b, c, d] = [errors[k]!, errors[k + 1]!, errors[k + 2]!, errors[k + 3]!]
      const at = r * n
      for (let j = to; j < n; j++) w[at + j]! -= a * u[p + j]! + b * u[q + j]! + c * u[s + j]! + d * u[t + j]!
    }
  }
  for (; i < to; i++)
    for (let r = 0; r < rows; r++) {
      const e = errors[r * BLOCK + i - from]!
      for (let j = to; j < n; j++) w[r * n + j]! -= e * u[i * n + j]!
    }
}
