import type { Params, Tensor } from '@weftjs/spec'
import { tensor } from '@weftjs/tensor'
import { byteReader, byteWriter } from './bytes.ts'
import { fromRice, MOST_RICE, riceParameter, toRice } from './rice.ts'
import {
  checkTernary,
  fromTernary,
  kept,
  type Magnitude,
  type TernaryVector,
  type TernaryVectorOptions,
  toTernary,
} from './ternary.ts'

export interface ToCompeftOptions extends Omit<TernaryVectorOptions, 'magnitude'> {
  /** `own`: what is kept keeps its magnitude, too (pruning only) */
  readonly magnitude?: Magnitude | 'own'
  /** what the delta is counted from: the weights before tuning, or ones for IA3. Absent: `params` are the delta (LoRA's A and B) */
  readonly base?: Params
  readonly coding?: 'rice' | 'masks'
  /** anything to keep beside it, such as the adapter's configuration */
  readonly about?: string
}
/** What a file holds: one vector, the tensors that it is cut into, in sorted order. */
export interface Compeft {
  readonly ternary: TernaryVector
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[]
  readonly about: string
  /** magnitudes of what is kept, in order, where they are its own */
  readonly values?: Float32Array
}

const MAGIC = [67, 80, 70, 84] // CPFT
const CODINGS = ['rice', 'masks', 'own'] as const
const joined = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  const both = new Uint8Array(a.length + b.length)
  both.set(a)
  both.set(b, a.length)
  return both
}
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** one vector of all tensors, by sorted names @throws Error for what is not finite, or lacks in the base */
const flat = async (params: Params, base: Params | undefined): Promise<Float32Array> => {
  const names = Object.keys(params).sort()
  const values = new Float32Array(names.reduce((n, name) => n + params[name]!.size, 0))
  let at = 0
  for (const name of names) {
    const t = params[name]!
    const before = base?.[name]
    if (base && before?.shape.join() !== t.shape.join())
      throw new Error(
        `${name}: the base has ${before ? `[${before.shape}]` : 'no such tensor'}, the tuned weights [${t.shape}]; give the base that they were tuned from`,
      )
    const from = await before?.data()
    for (const [i, v] of ((await t.data()) as Float32Array).entries()) {
      const delta = from ? v - from[i]! : v
      if (!Number.isFinite(delta)) throw new Error(`${name}: element ${i} is ${delta}; the run has diverged`)
      values[at++] = delta
    }
  }
  return values
}

/**
 * Adapter tensors, or the difference of tuned weights and their base, as one small file: signs of the largest share `keep` of
 * all numbers, and one magnitude  —  ComPEFT, Yadav et al., arXiv:2311.13171
 *
 * All tensors are one vector. The authors' code keeps ⌊k·d⌋ + 1 numbers, one more than the ⌊k·d⌋ of the paper and of this.
 *
 * Bytes, little-endian; `varint` is LEB128, `text` a varint of bytes and UTF-8: `CPFT`, version 1, coding (0 Golomb-Rice,
 * 1 two masks, 2 Golomb-Rice with magnitudes), r, 0; float32 scale; varint kept; varint tensors, for each by sorted name:
 * varint letters (UTF-16 units) shared with the name before, text of the rest, varint rank, varints of the shape;
 * text `about`; varint bytes of codes, codes; with magnitudes a float32 for each kept number. Codes: from the lowest bit
 * of each byte up, a kept number is ⌊gap/2ʳ⌋ ones, a zero, r bits of the gap (lowest first), 1 where below 0. Masks: bit i
 * of the first ⌈d/8⌉ bytes where number i is above 0, then of as many where it is below.
 *
 * @throws Error for keep outside (0, 1], numbers that are not finite, a delta that is all of one value
 */
export const toCompeft = async (
  params: Params,
  { keep = 0.1, magnitude = 'std', alpha = 1, base, coding = 'rice', about = '' }: ToCompeftOptions = {},
): Promise<Uint8Array> => {
  const ofSigns = magnitude === 'own' ? 'mean' : magnitude
  checkTernary('toCompeft', { keep, magnitude: ofSigns, alpha })
  if (coding !== 'rice' && coding !== 'masks')
    throw new Error(`toCompeft: coding must be 'rice' or 'masks', found ${JSON.stringify(coding)}`)
  const values = await flat(params, base)
  if (Math.floor(keep * values.length) === 0)
    throw new Error(`toCompeft: keep ${keep} of ${values.length} numbers is none of them; raise it`)
  const ternary = toTernary(values, { keep, magnitude: ofSigns, alpha })
  const count = kept(ternary)
  if (!(ternary.scale > 0 && count))
    throw new Error(
      count
        ? 'toCompeft: all numbers of the delta are equal, so that their standard deviation is 0; give magnitude "mean"'
        : 'toCompeft: the delta is all zeros; train first, or give the base that the weights were tuned from',
    )
  const r = magnitude !== 'own' && coding === 'masks' ? 0 : riceParameter(count / values.length)
  const out = byteWriter()
  out.bytes([...MAGIC, 1, magnitude === 'own' ? 2 : CODINGS.indexOf(coding), r, 0])
  out.float(ternary.scale)
  out.varint(count)
  const names = Object.keys(params).sort()
  out.varint(names.length)
  let before = ''
  for (const name of names) {
    let same = 0
    while (same < before.length && same < name.length && before[same] === name[same]) same++
    // a pair of surrogates stays whole
    if (same && /[\ud800-\udbff]/.test(name[same - 1]!)) same--
    out.varint(same)
    out.text(name.slice(same))
    const { shape } = params[name]!
    out.varint(shape.length)
    for (const d of shape) out.varint(d)
    before = name
  }
  out.text(about)
  const bytes = Math.ceil(values.length / 8)
  const mask = (words: Int32Array): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, bytes)
  const codes =
    magnitude !== 'own' && coding === 'masks' ? joined(mask(ternary.plus), mask(ternary.minus)) : toRice(ternary, r)
  out.varint(codes.length)
  out.bytes(codes)
  if (magnitude === 'own') {
    const signs = fromTernary({ ...ternary, scale: 1 })
    out.bytes(new Uint8Array(values.filter((_, i) => signs[i]).map(Math.abs).buffer))
  }
  return out.end()
}

export interface ReadOptions {
  /** in errors */
  readonly file?: string
  /** refuse more numbers than this, 2²⁸ by default: a file of a few bytes may name any shapes */
  readonly most?: number
}

/** What `toCompeft` wrote, as it is. @throws Error for a file that is cut short, damaged, or asks for more than `most` numbers */
export const readCompeft = (data: Uint8Array, { file = 'ComPEFT file', most = 2 ** 28 }: ReadOptions = {}): Compeft => {
  const read = byteReader(data, file)
  const fail = (what: string): never => {
    throw new Error(`${file}: ${what}`)
  }
  const head = data.length >= 8 ? read.bytes(8, 'the head') : fail(`${data.length} bytes are no ComPEFT file`)
  if (MAGIC.some((b, i) => head[i] !== b)) fail('does not begin with CPFT; it is no ComPEFT file')
  if (head[4] !== 1) fail(`version ${head[4]}; this reads version 1`)
  const coding = CODINGS[head[5]!] ?? fail(`coding ${head[5]} is unknown; there are 0, 1 and 2`)
  const r = head[6]!
  if (r > MOST_RICE) fail(`r is ${r}, at most ${MOST_RICE}`)
  const scale = read.float('the scale')
  if (!(scale > 0 && Number.isFinite(scale))) fail(`the scale is ${scale}; it must be above 0`)
  const count = read.varint('the count of kept numbers')
  const n = read.varint('the count of tensors')
  // a tensor takes three bytes at least
  if (n > read.left() / 3) fail(`${n} tensors are more than ${read.left()} bytes can name`)
  const tensors: { name: string; shape: number[] }[] = []
  let [length, before] = [0, '']
  for (let i = 0; i < n; i++) {
    const same = read.varint('a shared beginning')
    if (same > before.length) fail(`tensor ${i} shares ${same} letters with a name of ${before.length}`)
    const name: string = before.slice(0, same) + read.text('a name')
    if (i && name <= before) fail(`tensor ${i}, '${name}', does not come after '${before}'`)
    const rank = read.varint(`${name}: the rank`)
    if (rank > 8) fail(`${name}: rank ${rank}`)
    const shape = Array.from({ length: rank }, () => read.varint(`${name}: its shape`))
    length += sizeOf(shape)
    if (!(length <= most))
      fail(`${name}: [${shape}] makes ${length} numbers of it, and ${most} are allowed; raise "most" if you trust it`)
    tensors.push({ name, shape })
    before = name
  }
  if (count > length) fail(`${count} numbers are kept of ${length}`)
  const about = read.text('about')
  const codes = read.bytes(read.varint('the length of the codes'), 'the codes')
  const values = coding === 'own' ? new Float32Array(read.bytes(4 * count, 'the magnitudes').slice().buffer) : undefined
  if (read.left()) fail(`${read.left()} bytes follow its end`)
  if (values && !values.every((v) => v > 0 && Number.isFinite(v))) fail('a magnitude is not a number above 0')
  try {
    const masks = coding === 'masks' ? fromMasks(codes, length) : fromRice(codes, length, count, r)
    const ternary = { ...masks, scale }
    if (kept(ternary) !== count) fail(`${kept(ternary)} numbers are kept, and ${count} were announced`)
    return { ternary, tensors, about, ...(values && { values }) }
  } catch (error) {
    const { message } = error as Error
    throw message.startsWith(file) ? error : new Error(`${file}: ${message}`)
  }
}

const fromMasks = (codes: Uint8Array, length: number): Pick<TernaryVector, 'length' | 'plus' | 'minus'> => {
  const bytes = Math.ceil(length / 8)
  if (codes.length !== 2 * bytes)
    throw new Error(`masks of ${length} numbers take ${2 * bytes} bytes, found ${codes.length}`)
  const mask = (from: number): Int32Array => {
    const words = new Int32Array(Math.ceil(length / 32))
    new Uint8Array(words.buffer).set(codes.subarray(from, from + bytes))
    return words
  }
  const [plus, minus] = [mask(0), mask(bytes)]
  if (plus.some((p, i) => p & minus[i]!)) throw new Error('a number is both above and below 0')
  const past = length % 32 ? -1 << (length % 32) : 0
  if (((plus.at(-1) ?? 0) | (minus.at(-1) ?? 0)) & past)
    throw new Error(`a number stands beyond the ${length} there are`)
  return { length, plus, minus }
}

/** The tensors of `toCompeft`, added to `base` where there is one. @throws Error as `readCompeft`, and where the base lacks a tensor */
export const fromCompeft = (
  data: Uint8Array | Compeft,
  { base, ...options }: ReadOptions & { readonly base?: Params } = {},
): Params => {
  const { ternary, tensors, values } = data instanceof Uint8Array ? readCompeft(data, options) : data
  const found: Record<string, Tensor> = {}
  let [at, seen] = [0, 0]
  for (const { name, shape } of tensors) {
    const numbers = fromTernary(values ? { ...ternary, scale: 1 } : ternary, at, at + sizeOf(shape))
    at += numbers.length
    if (values) for (let i = 0; i < numbers.length; i++) if (numbers[i]) numbers[i]! *= values[seen++]!
    const before = base?.[name]
    if (base && before?.shape.join() !== shape.join())
      throw new Error(
        `${name}: the base has ${before ? `[${before.shape}]` : 'no such tensor'}, the file [${shape}]; give the base that it was made from`,
      )
    const from = before?.dataSync()
    found[name] = tensor(from ? numbers.map((v, i) => v + from[i]!) : numbers, [...shape])
  }
  return found
}
