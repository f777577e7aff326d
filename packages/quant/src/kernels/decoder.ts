import type { Tensor } from '@weftjs/tensor'
import type { Decoder } from '@weftjs/tensor/decoded'
import { addressOf, heapBytes, output, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/decode.generated.ts'
import type { Table } from './table.ts'

/** 8-bit codes of the scales, and what these are multiplied and moved by */
export interface NestedScales {
  readonly codes: Tensor
  readonly table: Table
  readonly scale: Tensor
  /** [1] */
  readonly offset: Tensor
  readonly block: number
}

/** where the tables of a product lie on the heap: made for a product, disposed by the tidy around it */
const place = (tables: readonly Float32Array[], more = 0): number[] => {
  const sizes = tables.map((t) => t.length)
  const all = output([sizes.reduce((n, s) => n + s, more)])
  let at = addressOf(all)
  return [...tables, undefined].map((t) => {
    const here = at
    if (t) {
      heapBytes(at, t.byteLength).set(new Uint8Array(t.buffer, t.byteOffset, t.byteLength))
      at += t.byteLength
    }
    return here
  })
}

/** codes of a table's levels times the scales of blocks of n numbers, plus `shift` of each block */
export const tableDecoder = (
  q: Tensor,
  { levels, lookup }: Table,
  block: number,
  n: number,
  scale: Tensor | NestedScales,
  shift?: Tensor,
): Decoder => ({
  heap: () => {
    const ours = routines(module)
    if (!ours || (levels.length !== 16 && shift)) return undefined
    const aq = addressOf(q)
    const decode = (levels.length === 16 ? ours['four'] : ours['eight'])!
    const move = shift ? addressOf(shift) : 0
    if (!('codes' in scale)) {
      const [al] = place([lookup])
      const as = addressOf(scale)
      return (from, to, at) => decode(aq, al!, as, move, block, from, to, at)
    }
    const blocks = Math.ceil(n / block)
    const [al, an, as] = place([lookup, scale.table.lookup], blocks)
    const nested = [scale.codes, an!, scale.scale, scale.offset].map((t) => (typeof t === 'number' ? t : addressOf(t)))
    ours['eight']!(...nested, scale.block, 0, blocks, as!)
    return (from, to, at) => decode(aq, al!, as!, move, block, from, to, at)
  },
})

/** signed 8-bit codes times the scale of each row, times `unit` */
export const linearDecoder = (q: Tensor, scale: Tensor, unit: number, width: number): Decoder => ({
  heap: () => {
    const linear = routines(module)?.['linear']
    const [aq, as] = [addressOf(q), addressOf(scale)]
    return linear && ((from, to, at) => linear(aq, as, unit, width, from, to, at))
  },
})
