import { search } from '../solve/beam.ts'
import { groupsOf, type Opening } from './open.ts'

export interface VStep {
  /** largest share of the groups whose codes may move, rounded up */
  readonly tau: number
  /** ‖ΔW‖ ≤ trust·‖W‖ over all of them, but for a single group */
  readonly trust: number
  readonly beam: number
}
interface Given {
  readonly codes: Int32Array
  readonly books: Float32Array
  readonly scale: Float32Array
  /** where the matrix should go, in the order of groups */
  readonly target: Float32Array
}

/**
 * New codes: of the groups that are farthest from the target the ⌈tau·groups⌉ farthest take the codes nearest to it, and of
 * these stands the longest run, farthest first, that changes W by no more than `trust` of its norm; one group always does.
 * The authors' code lets the run end one group later.
 */
export const vStep = (at: Opening, { codes, books, scale, target }: Given, { tau, trust, beam }: VStep): Int32Array => {
  const { codebooks, bits, group, outGroup, block, shift } = at
  const d = group * outGroup
  const groups = codes.length / codebooks
  const now = groupsOf(at, codes, books, scale)
  const far = new Float64Array(groups)
  let norm = 0
  for (let g = 0, i = 0; g < groups; g++) {
    let sum = 0
    for (let t = 0; t < d; t++, i++) {
      sum += (target[i]! - now[i]!) ** 2
      norm += now[i]! ** 2
    }
    far[g] = scale[Math.floor(g / block)] ? sum : 0 // no code changes what is multiplied by 0
  }
  const able = Array.from(far.keys()).filter((g) => far[g]! > 0)
  const chosen = able.sort((a, b) => far[b]! - far[a]! || a - b).slice(0, Math.ceil(tau * groups))
  if (!chosen.length) return codes
  const wanted = new Float64Array(chosen.length * d)
  const before = new Int32Array(chosen.length * codebooks)
  chosen.forEach((g, k) => {
    const b = Math.floor(g / block)
    for (let t = 0; t < d; t++) wanted[k * d + t] = target[g * d + t]! / scale[b]! + (shift?.[b] ?? 0)
    for (let c = 0; c < codebooks; c++) before[k * codebooks + c] = codes[g * codebooks + c]!
  })
  const shape = { out: chosen.length, input: d, codebooks, bits, group: d, outGroup: 1 }
  const ones = new Float64Array(chosen.length).fill(1)
  const found = search(wanted, shape, { codes: before, books: Float64Array.from(books), scales: ones }, { beam })
  const next = codes.slice()
  const most = trust ** 2 * norm
  let [moved, changed] = [0, 0]
  for (let k = 0; k < chosen.length; k++) {
    const g = chosen[k]!
    const own = found.subarray(k * codebooks, (k + 1) * codebooks)
    const s = scale[Math.floor(g / block)]!
    for (let t = 0; t < d; t++) {
      let gap = 0
      for (let c = 0; c < codebooks; c++) {
        const from = c * 2 ** bits
        gap += books[(from + own[c]!) * d + t]! - books[(from + codes[g * codebooks + c]!) * d + t]!
      }
      moved += (s * gap) ** 2
    }
    if (moved > most && changed) break
    if (own.some((code, c) => code !== codes[g * codebooks + c])) changed++
    next.set(own, g * codebooks)
    if (moved > most) break
  }
  return next
}
