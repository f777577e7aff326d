import type { Tensor } from '@weftjs/tensor'
import type { Decode, Decoder } from '@weftjs/tensor/decoded'
import { addressOf, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/decode.generated.ts'
import { placed, threaded } from './heap.ts'
import { byteAt, FOUR_TIMES, workgroupTable } from './shader.ts'
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

const inThreads = (routine: string, values: readonly number[]): Decode => threaded(module, routine, values)

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
    const routine = levels.length === 16 ? 'four' : 'eight'
    const move = shift ? addressOf(shift) : 0
    if (!('codes' in scale)) {
      const [al] = placed([lookup])
      const as = addressOf(scale)
      return inThreads(routine, [aq, al!, as, move, block])
    }
    const blocks = Math.ceil(n / block)
    const [al, an, as] = placed([lookup, scale.table.lookup], blocks)
    const nested = [scale.codes, an!, scale.scale, scale.offset].map((t) => (typeof t === 'number' ? t : addressOf(t)))
    ours['eight']!(...nested, scale.block, 0, blocks, as!)
    return inThreads(routine, [aq, al!, as!, move, block])
  },
  shader: () => {
    const nested = 'codes' in scale ? scale : undefined
    const table = workgroupTable(levels.length === 16 ? 'levels' : 'steps', levels)
    const scales = nested && workgroupTable('steps', nested.table.levels)
    const small = levels.length === 16
    const level = small ? 'levels' : 'steps'
    const scaleAt = nested
      ? `steps[${byteAt('scaleCodes', 'b')}] * nested[b / ${nested.block}u] + offset[0]`
      : 'scales[b]'
    const code = small ? 'extractBits(q[i / 8u], 8u * (i % 8u / 2u) + 4u * (1u - i % 2u), 4u)' : byteAt('q', 'i')
    // the high half of a byte comes first
    const codes = small
      ? 'let w = q[i / 8u] >> (16u * (i / 4u % 2u)); let c = vec4u(w >> 4u, w, w >> 12u, w >> 8u) & vec4u(15u);'
      : 'let w = q[i / 4u]; let c = vec4u(w, w >> 8u, w >> 16u, w >> 24u) & vec4u(255u);'
    const more = (b: string): string => (shift ? ` + shifts[${b}]` : '')
    return {
      name: `table ${[table.key, block, nested?.block ?? '', shift ? 1 : 0]}`,
      reads: {
        'q: u32': q,
        ...(nested
          ? { 'scaleCodes: u32': nested.codes, nested: nested.scale, offset: nested.offset }
          : { scales: scale as Tensor }),
        ...(shift && { shifts: shift }),
      },
      start: (threads) => table.start(threads) + (scales?.start(threads) ?? ''),
      code: () => `${table.head}${scales?.head ?? ''}
fn scaleAt(b: u32) -> f32 { return ${scaleAt}; }
fn weightAt(i: u32) -> f32 { return ${level}[${code}] * scaleAt(i / ${block}u)${more(`i / ${block}u`)}; }${
        block % 4
          ? FOUR_TIMES
          : `
fn weightsAt(i: u32) -> vec4f {
  ${codes}
  return vec4f(${level}[c.x], ${level}[c.y], ${level}[c.z], ${level}[c.w]) * scaleAt(i / ${block}u)${more(`i / ${block}u`)};
}`
      }`,
    }
  },
})

/** signed 8-bit codes times the scale of each `block`, a row by default, times `unit` */
export const linearDecoder = (
  q: Tensor,
  scale: Tensor,
  unit: number,
  width: number,
  block: number = width,
): Decoder => ({
  heap: () => {
    if (!routines(module)) return undefined
    return inThreads('linear', [addressOf(q), addressOf(scale), unit, block])
  },
  shader: () => ({
    name: `linear ${unit} ${block === width ? '' : block}`,
    reads: { 'q: i32': q, scales: scale },
    // fours lie in one row: they are asked for where its length is a multiple of 4
    code: (row) => {
      const at = `i / ${block === width ? row : `${block}u`}`
      return `
fn weightAt(i: u32) -> f32 { return f32(${byteAt('q', 'i')}) * scales[${at}] * ${unit}; }${
        block !== width && block % 4
          ? FOUR_TIMES
          : `
fn weightsAt(i: u32) -> vec4f {
  let w = q[i / 4u];
  let c = vec4i(extractBits(w, 0u, 8u), extractBits(w, 8u, 8u), extractBits(w, 16u, 8u), extractBits(w, 24u, 8u));
  return vec4f(c) * scales[${at}] * ${unit};
}`
      }`
    },
  }),
})
