import { type Tensor, tensor1d, tidy } from '@weftjs/tensor'
import type { Decode, Decoder } from '@weftjs/tensor/decoded'
import { addressOf, inParts, output, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/aqlm.generated.ts'
import { F16 } from './half.ts'
import { checkRow, decodeTo, loopKernel, type Values } from './loop.ts'
import { FOUR_TIMES } from './shader.ts'
import { streamAt } from './stream.ts'

/** numbers of a matrix in groups of `tall` rows by `group` columns, each scale · Σ_c books[c][code c] */
export interface AdditiveLayout extends Record<string, number> {
  readonly codebooks: number
  readonly bits: number
  readonly group: number
  readonly tall: number
  readonly width: number
}

/** float16 numbers, two to a word → float32 */
export const floatsOf = (words: Values): Float32Array<ArrayBuffer> => {
  const bits = new Uint16Array(words.buffer, words.byteOffset, 2 * words.length)
  return Float32Array.from(bits, F16.from)
}

const WGSL = `
fn codeAt(k: u32, bits: u32) -> u32 {
  let word = (k / 32u) * bits + (k % 32u) * bits / 32u;
  let shift = ((k % 32u) * bits) % 32u;
  var low = WORDS(word) >> shift;
  if (shift + bits > 32u) { low |= WORDS(word + 1u) << (32u - shift); }
  return low & ((1u << bits) - 1u);
}
fn halfOf(h: u32) -> f32 { ${F16.wgsl.from} }
fn bookAt(i: u32) -> f32 { return halfOf((BOOKS(i / 2u) >> (16u * (i % 2u))) & 0xffffu); }`
/** with how words of q and books are read */
const functions = (words: (i: string) => string, books: (i: string) => string): string =>
  WGSL.replace(/WORDS\(((?:[^()]|\([^()]*\))*)\)/g, (_, i: string) => words(i)).replace(
    /BOOKS\(((?:[^()]|\([^()]*\))*)\)/g,
    (_, i: string) => books(i),
  )
/** Σ of number t of the vectors in a group whose codes begin at `code` */
const SUM = (codebooks: string, bits: string, d: string): string => `
  var sum = 0.0;
  for (var c = 0u; c < ${codebooks}; c++) { sum += bookAt(((c << ${bits}) + codeAt(code + c, ${bits})) * ${d} + t); }`

const decodeWith = (layout: AdditiveLayout, [q, books, scale]: readonly Tensor[]): Decode | undefined => {
  const { codebooks, bits, group, tall, width } = layout
  if (!routines(module)) return undefined
  const n = codebooks * 2 ** bits * group * tall
  const table = output([n])
  const [aq, ab, as, at] = [q!, books!, scale!, table].map(addressOf) as [number, number, number, number]
  routines(module)!['halfBooks']!(ab, at, n)
  return (from, to, y) =>
    inParts(module, 'additive', { n: Math.ceil((to - from) / 8), least: 2 ** 13 }, (first, count) => {
      const start = from + 8 * first
      return [
        ...[aq, at, as, codebooks, bits, group, tall, width],
        ...[start, Math.min(start + 8 * count, to), y + 32 * first],
      ]
    })
}

const kernel = loopKernel<AdditiveLayout & { n: number; gathered: number }>({
  name: 'AdditiveDecode',
  dtype: 'float32',
  shape: ({ n, width, gathered }, [, , , rows]) => (gathered ? [rows!, width] : [n]),
  run: ([q, books, scale, rows], out, { n, codebooks, bits, group, tall, width, gathered }) => {
    const table = floatsOf(books!)
    const [columns, d, size] = [width / group, group * tall, 2 ** bits]
    const row = (r: number, at: number): void => {
      const o = Math.floor(r / tall)
      const s = scale![o]!
      const inner = (r % tall) * group
      for (let j = 0, code = o * columns * codebooks; j < columns; j++, at += group) {
        const vectors = Array.from({ length: codebooks }, (_, c) => (c * size + streamAt(q!, bits, code++)) * d + inner)
        for (let t = 0; t < group; t++) {
          let sum = 0
          for (const from of vectors) sum = Math.fround(sum + table[from + t]!)
          out[at + t] = sum * s
        }
      }
    }
    if (gathered)
      rows!.forEach((r, i) => {
        checkRow(r, n / width)
        row(r, i * width)
      })
    else for (let r = 0; r < n / width; r++) row(r, r * width)
  },
  heap: (_, inputs, out, attrs) => {
    tidy(() => {
      decodeTo(out, inputs[3]!, attrs, decodeWith(attrs, inputs)!)
    })
  },
  wgsl: {
    inputs: ['Q', 'B', 'S', 'R'],
    numbers: ['n', 'codebooks', 'bits', 'group', 'tall', 'width', 'gathered'],
    head: functions(
      (i) => `bitcast<u32>(Q[i32(${i})])`,
      (i) => `bitcast<u32>(B[i32(${i})])`,
    ),
    body: `
  var row = u32(index / uniforms.width);
  if (uniforms.gathered == 1) { row = u32(R[row]); }
  let column = u32(index % uniforms.width);
  let group = u32(uniforms.group);
  let tall = u32(uniforms.tall);
  let code = ((row / tall) * u32(uniforms.width / uniforms.group) + column / group) * u32(uniforms.codebooks);
  let t = (row % tall) * group + column % group;${SUM('u32(uniforms.codebooks)', 'u32(uniforms.bits)', 'group * tall')}
  result[index] = sum * S[row / tall];`,
  },
})

/** all n numbers → [n], or the rows named by `rows` [m] int32 → [m, width] */
export const decodeAdditive = (
  parts: readonly [q: Tensor, books: Tensor, scale: Tensor],
  layout: AdditiveLayout,
  n: number,
  rows?: Tensor,
): Tensor => tidy(() => kernel([...parts, rows ?? tensor1d([0], 'int32')], { ...layout, n, gathered: rows ? 1 : 0 }))

export const additiveDecoder = (
  parts: readonly [q: Tensor, books: Tensor, scale: Tensor],
  layout: AdditiveLayout,
): Decoder => ({
  heap: () => decodeWith(layout, parts),
  shader: () => {
    const { codebooks, bits, group, tall } = layout
    return {
      name: `additive ${[codebooks, bits, group, tall]}`,
      reads: { 'q: u32': parts[0], 'books: u32': parts[1], scales: parts[2] },
      code: (width) => `${functions(
        (i) => `q[${i}]`,
        (i) => `books[${i}]`,
      )}
fn weightAt(i: u32) -> f32 {
  let row = i / ${width};
  let column = i % ${width};
  let code = ((row / ${tall}u) * (${width} / ${group}u) + column / ${group}u) * ${codebooks}u;
  let t = (row % ${tall}u) * ${group}u + column % ${group}u;${SUM(`${codebooks}u`, `${bits}u`, `${group * tall}u`)}
  return sum * scales[row / ${tall}u];
}${FOUR_TIMES}`,
    }
  },
})
