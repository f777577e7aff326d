import { onHeap } from './gptq-heap.ts'
import { codeOf, fitGrid, type Grid, valueAt } from './grid.ts'
import { inverseFactor, type Statistics, statistics } from './hessian.ts'

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

/** What the columns are solved by, and where what is found goes. */
export interface Columns extends Omit<Solved, 'order'> {
  readonly out: number
  readonly n: number
  readonly group: number
  readonly most: number
  readonly symmetric: boolean
  readonly damp: number
  readonly stats: Statistics
  /** [from, to) of columns that are spread together: whole groups where they are small, and else what is left of one */
  readonly blocks: readonly (readonly [from: number, to: number])[]
  /** where a column is stored, and its group, by its turn */
  readonly place: Int32Array
  readonly groupOf: Int32Array
  /** scales and zeros are there before the first column is rounded */
  readonly fitted: boolean
  /** rows of W, by their columns' turns */
  fill(tile: Float64Array, first: number, rows: number): void
}

const blocksOf = (n: number, group: number): [number, number][] => {
  const found: [number, number][] = []
  for (let from = 0, to = 0; from < n; from = to) {
    to =
      group < BLOCK ? from + group * Math.floor(BLOCK / group) : Math.min(from + BLOCK, from - (from % group) + group)
    to = Math.min(to, n)
    found.push([from, to])
  }
  return found
}

/**
 * Codes that keep tr(ΔW·H·ΔWᵀ) small: columns are rounded one after the other, and the error of each is made good by
 * those that are left  —  Frantar et al., arXiv:2210.17323, algorithm 1. w [out, in], h [in, in] of any scale.
 * Scales are of the weights as they are when a group's turn comes (AutoGPTQ's code takes older ones within a block).
 * Weights of inputs that are always 0 become 0. On the wasm heap, in threads, where there is one.
 * @throws Error for an H that is not finite, or not positive definite
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
  const groups = n / group
  const dead = Uint8Array.from({ length: n }, (_, i) => Number(!(h[i * n + i]! > 0)))
  const order = actOrder ? fallingOrder(h, n) : Int32Array.from({ length: n }, (_, i) => i)
  const moved = actOrder && !staticGroups && groups > 1
  const stored = moved ? sortedInGroups(order, group) : undefined
  const place = new Int32Array(n)
  for (let i = 0; i < n; i++) place[stored ? stored[i]! : i] = i
  const found = {
    codes: new Uint8Array(out * n),
    scale: new Float32Array(out * groups),
    zero: new Uint8Array(out * groups),
  }
  if (staticGroups) {
    const row = new Float64Array(n)
    for (let r = 0, k = 0; r < out; r++) {
      for (let i = 0; i < n; i++) row[i] = dead[i] ? 0 : w[r * n + i]!
      for (let g = 0; g < n; g += group, k++)
        [found.scale[k], found.zero[k]] = fitGrid(row, g, g + group, grid) as [number, number]
    }
  }
  const columns: Columns = {
    ...found,
    ...{ out, n, group, damp, symmetric: grid.symmetric, most: 2 ** grid.bits - 1 },
    stats: statistics(h, n, order, dead),
    blocks: blocksOf(n, group),
    place: order.map((column) => place[column]!),
    groupOf: order.map((column, i) => Math.floor((staticGroups ? column : i) / group)),
    fitted: staticGroups,
    fill: (tile, first, rows) => {
      for (let r = 0, at = 0; r < rows; r++)
        for (let i = 0, row = (first + r) * n; i < n; i++, at++) {
          const column = order[i]!
          tile[at] = dead[column] ? 0 : w[row + column]!
        }
    },
  }
  if (!onHeap(columns)) plain(columns, grid)
  return { ...found, ...(stored && { order: stored }) }
}

const plain = (
  { out, n, group, most, damp, stats, blocks, place, groupOf, fitted, fill, codes, scale, zero }: Columns,
  grid: Grid,
): void => {
  const u = inverseFactor(stats, damp)
  const groups = n / group
  const tile = new Float64Array(TILE * n)
  const errors = new Float64Array(TILE * BLOCK)
  for (let first = 0; first < out; first += TILE) {
    const rows = Math.min(TILE, out - first)
    fill(tile, first, rows)
    for (const [from, to] of blocks) {
      for (let r = 0; r < rows; r++) {
        const at = r * n
        for (let i = from; i < to; i++) {
          const k = (first + r) * groups + groupOf[i]!
          if (!fitted && i % group === 0)
            [scale[k], zero[k]] = fitGrid(tile, at + i, at + i + group, grid) as [number, number]
          const code = codeOf(tile[at + i]!, scale[k]!, zero[k]!, most)
          codes[(first + r) * n + place[i]!] = code
          const e = (tile[at + i]! - valueAt(code, scale[k]!, zero[k]!)) / u[i * n + i]!
          errors[r * BLOCK + i - from] = e
          if (e !== 0) for (let j = i + 1; j < to; j++) tile[at + j]! -= e * u[i * n + j]!
        }
      }
      spread(tile, errors, u, { rows, n, from, to })
    }
  }
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
