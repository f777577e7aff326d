import { type Matrix, transpose } from './matrix.ts'

export interface AssignOptions {
  /** the dearest assignment instead of the cheapest; −Infinity then forbids a pair */
  maximize?: boolean
}

/** Column of each row for rows ≤ cols, by shortest augmenting paths with row and column prices. */
const cheapest = ({ rows, cols, data }: Matrix): Int32Array => {
  const price = new Float64Array(cols)
  const profit = new Float64Array(rows)
  const rowOf = new Int32Array(cols).fill(-1)
  const columnOf = new Int32Array(rows).fill(-1)
  const distance = new Float64Array(cols)
  const via = new Int32Array(cols)
  const done = new Uint8Array(cols)
  for (let start = 0; start < rows; start++) {
    distance.fill(Number.POSITIVE_INFINITY)
    done.fill(0)
    let [row, reached, sink] = [start, 0, -1]
    while (sink < 0) {
      let next = -1
      let least = Number.POSITIVE_INFINITY
      for (let j = 0; j < cols; j++) {
        if (done[j]) continue
        const through = reached + data[row * cols + j]! - profit[row]! - price[j]!
        if (through < distance[j]!) {
          distance[j] = through
          via[j] = row
        }
        // among equals a free column ends the search at once
        if (distance[j]! < least || (distance[j]! === least && next >= 0 && rowOf[j]! < 0)) {
          least = distance[j]!
          next = j
        }
      }
      if (next < 0)
        throw new Error('assign: every complete assignment uses a forbidden (infinite) pair; make more pairs finite')
      done[next] = 1
      reached = least
      if (rowOf[next]! < 0) sink = next
      else row = rowOf[next]!
    }
    profit[start]! += reached
    for (let j = 0; j < cols; j++) {
      if (!done[j] || j === sink) continue
      const slack = reached - distance[j]!
      profit[rowOf[j]!]! += slack
      price[j]! -= slack
    }
    for (let j = sink; ; ) {
      const i = via[j]!
      rowOf[j] = i
      const previous = columnOf[i]!
      columnOf[i] = j
      if (i === start) break
      j = previous
    }
  }
  return columnOf
}

/**
 * Linear assignment: the column of each row of cost [m, n], each column used once, so that the sum is least; with
 * m > n the m − n rows left over get −1. Infinity forbids a pair. O(min²·max): shortest augmenting paths
 * — Jonker & Volgenant, Computing 38 (1987). Throws on NaN and where every assignment is forbidden.
 */
export const assign = (cost: Matrix, { maximize = false }: AssignOptions = {}): Int32Array => {
  const data = maximize ? cost.data.map((v) => -v) : cost.data
  data.forEach((v, at) => {
    if (Number.isNaN(v) || v === Number.NEGATIVE_INFINITY)
      throw new Error(
        `assign: cost [${Math.floor(at / cost.cols)}, ${at % cost.cols}] is ${cost.data[at]}; give numbers, or ` +
          `${maximize ? '-Infinity' : 'Infinity'} for a pair that must not be`,
      )
  })
  if (cost.rows <= cost.cols) return cheapest({ ...cost, data })
  const out = new Int32Array(cost.rows).fill(-1)
  cheapest(transpose({ ...cost, data })).forEach((row, column) => {
    out[row] = column
  })
  return out
}
