import { halves } from '../../tensor/assembly/lib/half'

/** Additive code books → float32: numbers [from, to) of the matrix row by row. */

/** code k of a row of bits, the lowest bit of a word first; a code is below 2^bits, whatever the words are */
function codeAt(q: usize, bits: i32, k: i32): i32 {
  const at = <i64>k * bits
  const word = q + ((<usize>(at >> 5)) << 2)
  const shift = <i32>(at & 31)
  let low = load<u32>(word) >> shift
  if (shift + bits > 32) low |= load<u32>(word, 4) << (32 - shift)
  return <i32>(low & ((1 << bits) - 1))
}

/** scale·Σ books[c][code c] in groups of `tall` rows by `group` columns; books [codebooks, 2^bits, tall·group] float32 */
export function additive(
  q: usize,
  books: usize,
  scale: usize,
  codebooks: i32,
  bits: i32,
  group: i32,
  tall: i32,
  width: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const columns = width / group
  const vector = (<usize>group * tall) << 2
  const book = vector << bits
  while (from < to) {
    const row = from / width
    const column = from % width
    const j = column / group
    const start = column % group
    const n = min(group - start, to - from)
    const s = load<f32>(scale + ((<usize>(row / tall)) << 2))
    let code = ((row / tall) * columns + j) * codebooks
    let at = books + ((<usize>((row % tall) * group + start)) << 2)
    const factor = f32x4.splat(s)
    if (bits === 8) {
      const bytes = q + code
      let i = 0
      for (; i + 4 <= n; i += 4) {
        const place = at + ((<usize>i) << 2)
        let sum = v128.load(place + <usize>load<u8>(bytes) * vector)
        for (let c = 1; c < codebooks; c++)
          sum = f32x4.add(sum, v128.load(place + <usize>c * book + <usize>load<u8>(bytes + c) * vector))
        v128.store(y + ((<usize>i) << 2), f32x4.mul(sum, factor))
      }
      for (; i < n; i++) {
        let sum: f32 = 0
        for (let c = 0; c < codebooks; c++)
          sum += load<f32>(at + ((<usize>i) << 2) + <usize>c * book + <usize>load<u8>(bytes + c) * vector)
        store<f32>(y + ((<usize>i) << 2), sum * s)
      }
    } else {
      for (let c = 0; c < codebooks; c++, code++, at += book) {
        const place = at + <usize>codeAt(q, bits, code) * vector
        const last = c === codebooks - 1
        let i = 0
        for (; i + 4 <= n; i += 4) {
          let v = v128.load(place + ((<usize>i) << 2))
          if (c) v = f32x4.add(v128.load(y + ((<usize>i) << 2)), v)
          v128.store(y + ((<usize>i) << 2), last ? f32x4.mul(v, factor) : v)
        }
        for (; i < n; i++) {
          let v = load<f32>(place + ((<usize>i) << 2))
          if (c) v = load<f32>(y + ((<usize>i) << 2)) + v
          store<f32>(y + ((<usize>i) << 2), last ? v * s : v)
        }
      }
    }
    from += n
    y += (<usize>n) << 2
  }
}

/** n float16 numbers as float32 */
export function halfBooks(books: usize, y: usize, n: i32): void {
  halves(books, y, n)
}
