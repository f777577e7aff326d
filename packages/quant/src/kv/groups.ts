import type { Tensor } from '@weftjs/spec'
import { tensor1d, tidy } from '@weftjs/tensor'
import { addressOf, inParts, output, threads } from '@weftjs/tensor/heap'
import { F16 } from '../kernels/half.ts'
import { PART } from '../kernels/heap.ts'
import { loopKernel, roundEven, type Values } from '../kernels/loop.ts'
import * as module from '../wasm/kv.generated.ts'

/** Bits of one number: codes on an even grid, float16, or float32 as it came. */
export type KvBits = 2 | 4 | 8 | 16 | 32

/** How keys or values of n groups of g tokens lie. */
export interface Groups {
  readonly bits: KvBits
  /** B texts, G heads of width S */
  readonly texts: number
  readonly heads: number
  readonly width: number
  /** g */
  readonly tokens: number
  /** n */
  readonly count: number
  /** channels that share a scale, of one token; 0: the g tokens of one channel do */
  readonly channels: number
}

/**
 * `q`: for each group and in it each text, G·g·S codes in order, low bits first, to a whole number of words; so that groups
 * and texts are moved as words. `grid`: for each group and text, float16 scale (low half) and minimum of every G·S channel,
 * or of every token's ⌈S/channels⌉ parts; empty at 16 and 32 bits, where codes are the numbers' own bits.
 */
export interface Coded {
  readonly q: Tensor
  readonly grid: Tensor
}

/** words of a group of one text, and its scales */
export const wordsOf = ({ bits, heads, tokens, width, channels }: Groups): { q: number; grid: number } => ({
  q: Math.ceil((heads * tokens * width * bits) / 32),
  grid: bits > 8 ? 0 : channels ? heads * tokens * Math.ceil(width / channels) : heads * width,
})

type Attrs = Record<'bits' | 'texts' | 'heads' | 'width' | 'tokens' | 'count' | 'channels' | 'words' | 'grids', number>
const attrsOf = (g: Groups): Attrs => {
  const { q, grid } = wordsOf(g)
  const { bits, texts, heads, width, tokens, count, channels } = g
  return { bits, texts, heads, width, tokens, count, channels, words: q, grids: grid }
}
const NUMBERS = ['bits', 'texts', 'heads', 'width', 'tokens', 'count', 'channels', 'words', 'grids'] as const

/** where number e of unit u = group·B + text lies in x [B, G, n·g, S], and which scale it has */
const WGSL_PLACE = `
fn placeIn(u: i32, e: i32) -> i32 {
  let each = uniforms.tokens * uniforms.width;
  let row = (u % uniforms.texts) * uniforms.heads + e / each;
  return (row * uniforms.count + u / uniforms.texts) * each + e % each;
}
fn gridOf(e: i32) -> i32 {
  let row = e / uniforms.width;
  let s = e % uniforms.width;
  if (uniforms.channels > 0) {
    return row * ((uniforms.width + uniforms.channels - 1) / uniforms.channels) + s / uniforms.channels;
  }
  return row / uniforms.tokens * uniforms.width + s;
}
fn halfOf(v: f32) -> u32 { ${F16.wgsl.to} }
fn floatOf(h: u32) -> f32 { ${F16.wgsl.from} }`

/** f of every number of unit u, in order: its place in its codes, in x, and its scale's */
const eachNumber = (a: Attrs, u: number, f: (e: number, at: number, grid: number) => void): void => {
  const parts = a.channels ? Math.ceil(a.width / a.channels) : 0
  const [j, b] = [Math.floor(u / a.texts), u % a.texts]
  for (let h = 0, e = 0; h < a.heads; h++) {
    let at = ((b * a.heads + h) * a.count + j) * a.tokens * a.width
    for (let t = 0; t < a.tokens; t++) {
      const grid = a.channels ? (h * a.tokens + t) * parts : h * a.width
      for (let s = 0; s < a.width; s++) f(e++, at++, grid + (a.channels ? Math.floor(s / a.channels) : s))
    }
  }
}
/** of every unit: f of it, its scales and its minima, read once */
const eachUnit = (
  a: Attrs,
  grid: Values | undefined,
  f: (u: number, steps: Float32Array, least: Float32Array) => void,
): void => {
  const [steps, least] = [new Float32Array(a.grids), new Float32Array(a.grids)]
  for (let u = 0; u < a.count * a.texts; u++) {
    for (let i = 0; i < a.grids; i++) {
      const word = grid![u * a.grids + i]!
      steps[i] = F16.from(word & 0xffff)
      least[i] = F16.from(word >>> 16)
    }
    f(u, steps, least)
  }
}

/** by a routine of the heap: addresses, the groups, a range of units, and where it goes */
const inUnits = (routine: string, inputs: readonly Tensor[], out: Tensor, a: Attrs, scratch?: Tensor): void => {
  const values = [a.bits, a.texts, a.heads, a.width, a.tokens, a.count, a.channels]
  const from = inputs.map(addressOf)
  const last = [out, ...(scratch ? [scratch] : [])].map(addressOf)
  const each = Math.max(1, a.heads * a.tokens * a.width)
  inParts(module, routine, { n: a.count * a.texts, least: Math.ceil(PART / each) }, (first, n) => [
    ...[...from, ...values, first, first + n, ...last],
  ])
}
/** the same with room for a unit's scales and minima in each thread */
const withScales = (routine: string, inputs: readonly Tensor[], out: Tensor, a: Attrs): void => {
  const scratch = output([2 * Math.max(1, a.grids) * threads()])
  inUnits(routine, inputs, out, a, scratch)
  scratch.dispose()
}

const gridKernel = loopKernel<Attrs>({
  name: 'KvGrid',
  dtype: 'int32',
  shape: (a) => [a.count * a.texts * a.grids],
  run: ([x], out, a) => {
    const [least, most] = [new Float32Array(a.grids), new Float32Array(a.grids)]
    for (let u = 0; u < a.count * a.texts; u++) {
      least.fill(Number.POSITIVE_INFINITY)
      most.fill(Number.NEGATIVE_INFINITY)
      eachNumber(a, u, (_, at, i) => {
        const v = x![at]!
        if (v < least[i]!) least[i] = v
        if (v > most[i]!) most[i] = v
      })
      for (let i = 0; i < a.grids; i++) {
        const step = F16.to(Math.fround((most[i]! - least[i]!) / (2 ** a.bits - 1)))
        out[u * a.grids + i] = step | (F16.to(least[i]!) << 16)
      }
    }
  },
  module,
  heap: (_, inputs, out, a) => inUnits('kvGrid', inputs, out, a),
  wgsl: {
    inputs: ['X'],
    numbers: NUMBERS,
    head: WGSL_PLACE,
    body: `
  let u = index / uniforms.grids;
  let i = index % uniforms.grids;
  var least = 3.0e38;
  var most = -3.0e38;
  if (uniforms.channels > 0) {
    let parts = (uniforms.width + uniforms.channels - 1) / uniforms.channels;
    let from0 = i / parts * uniforms.width + i % parts * uniforms.channels;
    let end = min(from0 + uniforms.channels, (i / parts + 1) * uniforms.width);
    for (var e = from0; e < end; e++) { let v = X[placeIn(u, e)]; least = min(least, v); most = max(most, v); }
  } else {
    let from0 = i / uniforms.width * uniforms.tokens * uniforms.width + i % uniforms.width;
    for (var t = 0; t < uniforms.tokens; t++) {
      let v = X[placeIn(u, from0 + t * uniforms.width)]; least = min(least, v); most = max(most, v);
    }
  }
  let step = halfOf((most - least) / f32((1 << u32(uniforms.bits)) - 1));
  result[index] = bitcast<i32>(step | (halfOf(least) << 16u));`,
  },
})

const float = new Float32Array(1)
const word = new Int32Array(float.buffer)

const codeKernel = loopKernel<Attrs>({
  name: 'KvCode',
  dtype: 'int32',
  shape: (a) => [a.count * a.texts * a.words],
  run: ([x, grid], out, a) => {
    const [each, most] = [32 / a.bits, 2 ** a.bits - 1]
    eachUnit(a, grid, (u, steps, least) =>
      eachNumber(a, u, (e, at, i) => {
        let code = 0
        if (a.bits === 32) {
          float[0] = x![at]!
          code = word[0]!
        } else if (a.bits === 16) code = F16.to(x![at]!)
        else if (steps[i]! > 0)
          code = Math.max(0, Math.min(most, roundEven(Math.fround(Math.fround(x![at]! - least[i]!) / steps[i]!))))
        out[u * a.words + Math.floor(e / each)]! |= code << (a.bits * (e % each))
      }),
    )
  },
  module,
  heap: (_, inputs, out, a) => withScales('kvCodes', inputs, out, a),
  wgsl: {
    inputs: ['X', 'M'],
    numbers: NUMBERS,
    head: WGSL_PLACE,
    body: `
  let u = index / uniforms.words;
  let each = 32 / uniforms.bits;
  let size = uniforms.heads * uniforms.tokens * uniforms.width;
  var word = 0u;
  for (var j = 0; j < each; j++) {
    let e = index % uniforms.words * each + j;
    if (e >= size) { break; }
    let v = X[placeIn(u, e)];
    if (uniforms.bits == 32) { word = bitcast<u32>(v); break; }
    var code = halfOf(v);
    if (uniforms.bits < 16) {
      let m = bitcast<u32>(M[u * uniforms.grids + gridOf(e)]);
      let step = floatOf(m & 0xffffu);
      code = 0u;
      if (step > 0.0) {
        code = u32(clamp(round((v - floatOf(m >> 16u)) / step), 0.0, f32((1 << u32(uniforms.bits)) - 1)));
      }
    }
    word |= code << u32(uniforms.bits * j);
  }
  result[index] = bitcast<i32>(word);`,
  },
})

const valueKernel = loopKernel<Attrs>({
  name: 'KvValue',
  dtype: 'float32',
  shape: (a) => [a.texts, a.heads, a.count * a.tokens, a.width],
  run: ([q, grid], out, a) => {
    const [each, mask] = [32 / a.bits, a.bits === 32 ? -1 : 2 ** a.bits - 1]
    eachUnit(a, grid, (u, steps, least) =>
      eachNumber(a, u, (e, at, i) => {
        const code = (q![u * a.words + Math.floor(e / each)]! >>> (a.bits * (e % each))) & mask
        if (a.bits === 32) {
          word[0] = code
          out[at] = float[0]!
        } else out[at] = a.bits === 16 ? F16.from(code) : code * steps[i]! + least[i]!
      }),
    )
  },
  module,
  heap: (_, inputs, out, a) => withScales('kvValues', inputs, out, a),
  wgsl: {
    inputs: ['Q', 'M'],
    numbers: NUMBERS,
    head: WGSL_PLACE,
    body: `
  let each = 32 / uniforms.bits;
  let s = index % uniforms.width;
  let t = index / uniforms.width % (uniforms.count * uniforms.tokens);
  let row = index / (uniforms.width * uniforms.count * uniforms.tokens);
  let u = t / uniforms.tokens * uniforms.texts + row / uniforms.heads;
  let e = (row % uniforms.heads * uniforms.tokens + t % uniforms.tokens) * uniforms.width + s;
  let word = bitcast<u32>(Q[u * uniforms.words + e / each]);
  if (uniforms.bits == 32) { result[index] = bitcast<f32>(word); return; }
  let code = extractBits(word, u32(uniforms.bits * (e % each)), u32(uniforms.bits));
  if (uniforms.bits == 16) { result[index] = floatOf(code); return; }
  let m = bitcast<u32>(M[u * uniforms.grids + gridOf(e)]);
  result[index] = f32(code) * floatOf(m & 0xffffu) + floatOf(m >> 16u);`,
  },
})

const none = (): Tensor => tensor1d([0], 'int32')

/** x [B, G, n·g, S] on grids of min and (max − min)/(2^bits − 1), each kept in float16, codes rounded to them, halves to even */
export const encodeGroups = (x: Tensor, groups: Groups): Coded => {
  const attrs = attrsOf(groups)
  if (groups.bits > 8) return { q: tidy(() => codeKernel([x, none()], attrs)), grid: none() }
  const grid = gridKernel([x], attrs)
  return { q: codeKernel([x, grid], attrs), grid }
}

/** [B, G, n·g, S] */
export const decodeGroups = ({ q, grid }: Coded, groups: Groups): Tensor => valueKernel([q, grid], attrsOf(groups))

const moveKernel = loopKernel<{ width: number; first: number }>({
  name: 'KvMove',
  dtype: 'int32',
  shape: ({ width }, [, , rows]) => [rows! * width],
  run: ([a, b, rows], out, { width, first }) => {
    rows!.forEach((r, i) => {
      const [from, at] = r < first ? [a!, r] : [b!, r - first]
      ;(out as Int32Array).set(from.subarray(at * width, (at + 1) * width), i * width)
    })
  },
  wgsl: {
    inputs: ['A', 'B', 'R'],
    numbers: ['width', 'first'],
    body: `
  let r = R[index / uniforms.width];
  let i = index % uniforms.width;
  if (r < uniforms.first) { result[index] = A[r * uniforms.width + i]; return; }
  result[index] = B[(r - uniforms.first) * uniforms.width + i];`,
  },
})

/** Units of a and, after them, of b, in the order of `rows`: tfjs's ops would keep 24 of the 32 bits on a GPU. */
export const moveUnits = (a: Coded, b: Coded | undefined, rows: readonly number[], groups: Groups): Coded => {
  const { q, grid } = wordsOf(groups)
  const first = Math.round(a.q.size / q)
  return tidy(() => {
    const index = tensor1d([...rows], 'int32')
    return {
      q: moveKernel([a.q, b?.q ?? a.q, index], { width: q, first }),
      grid: grid ? moveKernel([a.grid, b?.grid ?? a.grid, index], { width: grid, first }) : none(),
    } as never
  }) as unknown as Coded
}
