import type { HeapModule } from '@weftjs/tensor/heap'
import * as module from '../wasm/gguf-grids.generated.ts'
import * as points from './grids.generated.ts'
import { type Block, type GgmlType, ggmlTypes } from './types.ts'

/**
 * Types of 1 to 3 bits: points of a grid, 4 or 8 numbers each, times a scale and, but for IQ1, signs of their own. The grids
 * are tables of the format, chosen by ggml from all points of 3 or 8 levels.
 */

/** The points of a grid, as they are read. */
export interface Grid {
  /** numbers of a point */
  readonly size: 4 | 8
  /** all points, one after the other */
  readonly values: () => Int8Array<ArrayBuffer>
  /** point by point 16 bits, which are the places of its numbers' levels, two points to a word */
  readonly codes: () => Int32Array
  /** `vec4f` of four levels, whose places are `c: vec4u` */
  readonly levels: string
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
const LAST = LETTERS.length - 1

/** places of the levels of each point: points ascend, and letters say how far it is from one to the next */
const placesOf = (text: string, size: number, levels: number): Uint8Array => {
  const places: number[] = []
  let number = 0
  for (const letter of text) {
    const gap = LETTERS.indexOf(letter)
    number += gap
    if (gap === LAST) continue
    for (let i = 0, rest = number; i < size; i++, rest = Math.floor(rest / levels)) places.push(rest % levels)
  }
  return Uint8Array.from(places)
}

const grid = (text: string, size: 4 | 8, levels: readonly number[], shader: string): Grid => {
  let [places, values, codes]: [Uint8Array?, Int8Array<ArrayBuffer>?, Int32Array?] = []
  const read = (): Uint8Array => (places ??= placesOf(text, size, levels.length))
  return {
    size,
    levels: shader,
    values: () => (values ??= Int8Array.from(read(), (place) => levels[place]!)),
    codes: () => {
      if (codes) return codes
      codes = new Int32Array(read().length / size / 2)
      for (const [i, place] of read().entries()) codes[Math.floor(i / size / 2)]! |= place << ((i * (16 / size)) % 32)
      return codes
    },
  }
}

const TWO = [8, 25, 43]
const TWO_OF = 'vec4f(c * 17u + (c >> vec4u(1u)) + vec4u(8u))'
export const grids: Readonly<Record<keyof typeof points, Grid>> = {
  IQ2_XXS: grid(points.IQ2_XXS, 8, TWO, TWO_OF),
  IQ2_XS: grid(points.IQ2_XS, 8, TWO, TWO_OF),
  IQ2_S: grid(points.IQ2_S, 8, TWO, TWO_OF),
  IQ3_XXS: grid(
    points.IQ3_XXS,
    4,
    [4, 12, 20, 28, 36, 44, 52, 62],
    'vec4f(c * 8u + vec4u(4u) + select(vec4u(0u), vec4u(2u), c == vec4u(7u)))',
  ),
  IQ3_S: grid(points.IQ3_S, 4, [1, 3, 5, 7, 9, 11, 13, 15], 'vec4f(2u * c + vec4u(1u))'),
  // eight times what the format has, so that the eighth that is added to each is a whole number
  IQ1_S: grid(points.IQ1_S, 8, [-8, 0, 8], '8.0 * vec4f(c) - 8.0'),
}

/** Where the parts of eight numbers lie, those from 8i on of a block that begins at byte `at`. */
export interface GridLayout {
  readonly grid: Grid
  /** the place in the grid of point k of the block */
  readonly point: (bytes: Uint8Array, at: number, k: number) => number
  /** a bit for each number that is negative; absent without signs */
  readonly signs?: (bytes: Uint8Array, at: number, i: number) => number
  /** what is added to each number before it is multiplied */
  readonly shift?: (bytes: Uint8Array, at: number, i: number) => number
  readonly scale: (bytes: Uint8Array, at: number, i: number) => number
  /** the same as WGSL expressions; that of the scale may follow statements */
  readonly wgsl: {
    readonly point: string
    readonly signs?: string
    readonly shift?: string
    readonly scale: string
  }
}

/** seven bits stand for eight signs, of which an even number is set */
export const evenSigns = (seven: number): number => {
  let odd = seven ^ (seven >> 4)
  odd ^= odd >> 2
  return seven | (((odd ^ (odd >> 1)) & 1) << 7)
}
/** the word at a byte */
export const word = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
/** number i of those of four bits that lie two to a byte */
export const nibble = (bytes: Uint8Array, at: number, i: number): number =>
  (bytes[at + (i >> 1)]! >> (4 * (i & 1))) & 15

const head = ({ grid, wgsl }: GridLayout): string => {
  const four = grid.size === 4
  return `
fn evenSigns(s: u32) -> u32 { return s | ((countOneBits(s) & 1u) << 7u); }
fn pointOf(at: u32, k: u32) -> u32 { ${wgsl.point} }
fn levelsAt(at: u32, e: u32) -> vec4f {
  let k = pointOf(at, e / ${grid.size}u);
  let p = tableAt(k / 2u) >> (16u * (k % 2u)${four ? '' : ' + 2u * (e & 4u)'});
  let c = ${four ? 'nibblesOf2(p)' : 'vec4u(p, p >> 2u, p >> 4u, p >> 6u) & vec4u(3u)'};
  return ${grid.levels};
}${four ? 'fn nibblesOf2(p: u32) -> vec4u { return vec4u(p, p >> 4u, p >> 8u, p >> 12u) & vec4u(15u); }' : ''}`
}
const codes = ({ wgsl }: GridLayout): string => {
  const all = 'let i = e / 8u; let v = levelsAt(at, e);'
  if (wgsl.shift) return `${all} return v + (${wgsl.shift});`
  return `${all}
  let s = (${wgsl.signs}) >> (e & 4u);
  return select(v, -v, (vec4u(s, s >> 1u, s >> 2u, s >> 3u) & vec4u(1u)) != vec4u(0u));`
}

/** A type whose numbers are points of a grid. */
export const gridded = (type: GgmlType, layout: GridLayout): Block => {
  const { grid, point, signs, shift, scale, wgsl } = layout
  const { size } = grid
  return {
    ...ggmlTypes[type],
    dequantize: (bytes, at, out, to) => {
      const values = grid.values()
      for (let i = 0; i < 32; i++) {
        const d = scale(bytes, at, i)
        const negative = signs ? signs(bytes, at, i) : 0
        const more = shift ? shift(bytes, at, i) : 0
        for (let j = 0; j < 8; j++) {
          const v = values[size * point(bytes, at, ((8 * i + j) / size) | 0) + (j % size)]! + more
          out[to + 8 * i + j] = d * ((negative >> j) & 1 ? -v : v)
        }
      }
    },
    table: { values: grid.values, codes: grid.codes, module: module as HeapModule },
    shader: {
      head: head(layout),
      codes: codes(layout),
      scale: `let i = e / 8u; ${wgsl.scale}`,
    },
  }
}
