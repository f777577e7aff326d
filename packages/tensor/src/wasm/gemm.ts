/**
 * Single-precision matrix product for the tfjs wasm heap, in SIMD: tiles of a few rows x 8 held in registers, the right
 * side packed into panels of 8 columns (Goto and van de Geijn, ACM TOMS 34(3), 2008).
 * Letters: C [m, n] = A [m, k] · B [k, n]; all strides are bytes, all matrices row by row.
 */
import {
  assemble,
  type Code,
  i32,
  type Local,
  loop,
  multiplyAdd,
  type Routine,
  repeat,
  v128,
  when,
} from './assemble.ts'
import { product, TOGETHER } from './product.ts'

/** Rows of a tile, as measured: 16 vector registers hold 5 x 8 sums and what they need, 6 x 8 where no product waits. */
export const rowsOf = (relaxed: boolean): number => (relaxed ? 6 : 5)

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const bump = (pointer: Local, by: Code): Code => pointer.set(i32.add(pointer.get, by))

/**
 * `rows` rows of C from all of B's panels. A's rows are `rs` apart with k contiguous, or packed as [k][rows].
 * B's panels are `bp` apart, their rows `bs` apart. With `add` the product is added to what C holds.
 */
const tile = (rows: number, packed: boolean, relaxed: boolean): Routine => ({
  name: `${packed ? 'packed' : 'rows'}${rows}`,
  parameters: ['a', 'rs', 'b', 'bs', 'bp', 'c', 'ldc', 'n', 'k', 'add'],
  body: ({ int, vec }) => {
    const [a, rs, b, bs, bp, c, ldc, n, k, add, q, t, r] = (
      ['a', 'rs', 'b', 'bs', 'bp', 'c', 'ldc', 'n', 'k', 'add', 'q', 't', 'r'] as const
    ).map(int) as [Local, Local, Local, Local, Local, Local, Local, Local, Local, Local, Local, Local, Local]
    const p = range(packed ? 1 : rows).map((i) => int(`p${i}`))
    const s = vec('s')
    const x = range(2).map((j) => vec(`b${j}`))
    const sums = range(rows).map((i) => range(2).map((j) => vec(`c${i}${j}`)))
    const madd = multiplyAdd(relaxed)
    // four of A's floats at a load, spread by shuffles: half again as fast as a splat from memory for each
    const v = range(rows).map((i) => vec(`a${i}`))
    const spread = (from: Local, l: number): Code => v128.shuffle(from.get, from.get, [l, l, l, l])
    const element = (i: number, u: number, four: boolean): Code => {
      if (packed) return rows >= 4 && i < 4 ? spread(v[0]!, i) : v128.splat(p[0]!.get, 4 * (u * rows + i))
      return four ? spread(v[i]!, u) : v128.splat(p[i]!.get, 4 * u)
    }
    const step = (u: number, four: boolean): Code => [
      packed && rows >= 4 ? v[0]!.set(v128.load(p[0]!.get, 4 * u * rows)) : [],
      x.map((value, j) => value.set(v128.load(q.get, 16 * j))),
      sums.map((row, i) => [s.set(element(i, u, four)), row.map((sum, j) => sum.set(madd(s.get, x[j]!.get, sum.get)))]),
      bump(q, bs.get),
    ]
    const steps = (count: number): Code => [
      count === 4 && !packed ? v.map((value, i) => value.set(v128.load(p[i]!.get))) : [],
      range(count).map((u) => step(u, count === 4)),
      p.map((pointer) => bump(pointer, i32.const(4 * count * (packed ? rows : 1)))),
      bump(t, i32.const(-count)),
    ]
    const sum = (value: Local, at: Code): Code => when(add.get, value.set(v128.add(value.get, at)))
    const full = (row: readonly Local[]): Code => [
      row.map((value, j) => [sum(value, v128.load(r.get, 16 * j)), v128.store(r.get, value.get, 16 * j)]),
      bump(r, ldc.get),
    ]
    // fewer than 8 columns are left: 4, 2 and 1 of them, touching nothing beyond
    const part = ([lo, hi]: readonly Local[]): Code => [
      q.set(r.get),
      when(i32.and(n.get, i32.const(4)), [
        sum(lo!, v128.load(q.get)),
        v128.store(q.get, lo!.get),
        lo!.set(hi!.get),
        bump(q, i32.const(16)),
      ]),
      when(i32.and(n.get, i32.const(2)), [
        s.set(lo!.get),
        sum(s, v128.load2(q.get)),
        v128.store2(q.get, s.get, 0),
        lo!.set(v128.shuffle(lo!.get, lo!.get, [2, 3, 2, 3])),
        bump(q, i32.const(8)),
      ]),
      when(i32.and(n.get, i32.const(1)), [sum(lo!, v128.load1(q.get)), v128.store1(q.get, lo!.get, 0)]),
      bump(r, ldc.get),
    ]
    const panel: Code = [
      p.map((pointer, i) => pointer.set(i === 0 ? a.get : i32.add(p[i - 1]!.get, rs.get))),
      q.set(b.get),
      sums.flat().map((value) => value.set(v128.zero)),
      t.set(k.get),
      loop(i32.ge(t.get, i32.const(4)), steps(4)),
      loop(i32.gt(t.get, i32.const(0)), steps(1)),
      r.set(c.get),
      when(i32.ge(n.get, i32.const(8)), sums.map(full), sums.map(part)),
      bump(c, i32.const(32)),
      bump(b, bp.get),
      bump(n, i32.const(-8)),
    ]
    return repeat(panel, i32.gt(n.get, i32.const(0)))
  },
})

/**
 * C [rows, n]: each row of B, read once and in order (a memory gives that twice as fast as four rows side by side), with
 * every row of A. With `add` they are added to what C holds.
 */
const dots = (rows: number, relaxed: boolean): Routine => ({
  name: `dots${rows}`,
  parameters: ['a', 'lda', 'b', 'ldb', 'c', 'ldc', 'n', 'k', 'add'],
  body: ({ int, vec }) => {
    const [a, lda, b, ldb, c, ldc, n, k, add, t, q, r] = (
      ['a', 'lda', 'b', 'ldb', 'c', 'ldc', 'n', 'k', 'add', 't', 'q', 'r'] as const
    ).map(int) as [Local, Local, Local, Local, Local, Local, Local, Local, Local, Local, Local, Local]
    // so many sums that no product waits for the one before; V8 spills more than six of them
    const chains = rows === 1 ? 4 : Math.floor(TOGETHER / rows)
    const madd = multiplyAdd(relaxed)
    const p = range(rows).map((i) => int(`p${i}`))
    const x = range(chains).map((u) => vec(`x${u}`))
    const sums = range(rows).map((i) => range(chains).map((u) => vec(`s${i}${u}`)))
    const step = (load: typeof v128.load, vectors: number, floats: number): Code =>
      loop(i32.ge(t.get, i32.const(floats)), [
        range(vectors).map((u) => x[u]!.set(load(q.get, 16 * u))),
        sums.map((chain, i) =>
          range(vectors).map((u) => chain[u]!.set(madd(x[u]!.get, load(p[i]!.get, 16 * u), chain[u]!.get))),
        ),
        [q, ...p].map((pointer) => bump(pointer, i32.const(4 * floats))),
        bump(t, i32.const(-floats)),
      ])
    const finish = ([sum, ...others]: readonly Local[]): Code => [
      others.map((other) => sum!.set(v128.add(sum!.get, other.get))),
      sum!.set(v128.add(sum!.get, v128.shuffle(sum!.get, sum!.get, [2, 3, 2, 3]))),
      sum!.set(v128.add(sum!.get, v128.shuffle(sum!.get, sum!.get, [1, 1, 1, 1]))),
      when(add.get, sum!.set(v128.add(sum!.get, v128.load1(r.get)))),
      v128.store1(r.get, sum!.get, 0),
      bump(r, ldc.get),
    ]
    return loop(i32.gt(n.get, i32.const(0)), [
      p.map((pointer, i) => pointer.set(i === 0 ? a.get : i32.add(p[i - 1]!.get, lda.get))),
      sums.flat().map((sum) => sum.set(v128.zero)),
      q.set(b.get),
      t.set(k.get),
      chains > 1 ? step(v128.load, chains, 4 * chains) : [],
      step(v128.load, 1, 4),
      step(v128.load1, 1, 1),
      r.set(c.get),
      sums.map(finish),
      bump(b, ldb.get),
      bump(c, i32.const(4)),
      bump(n, i32.const(-1)),
    ])
  },
})

/**
 * c [n] = Σ a[i]·b[i] over k rows of b, `ldb` apart: a row times a matrix, which is read once and in order. With `add`
 * the sum starts from what c holds.
 */
const combination = (relaxed: boolean): Routine => ({
  name: 'combination',
  parameters: ['a', 'b', 'ldb', 'c', 'n', 'k', 'add'],
  body: ({ int, vec }) => {
    const [a, b, ldb, c, n, k] = ['a', 'b', 'ldb', 'c', 'n', 'k'].map(int) as [Local, Local, Local, Local, Local, Local]
    const [y, t] = [int('y'), int('t')]
    const sum = vec('sum')
    const madd = multiplyAdd(relaxed)
    const columns = (floats: number, body: Code): Code =>
      loop(i32.ge(t.get, i32.const(floats)), [body, bump(y, i32.const(4 * floats)), bump(t, i32.const(-floats))])
    const block = (rows: number): Code => {
      const p = range(rows).map((i) => int(`p${i}`))
      const x = range(rows).map((i) => vec(`x${i}`))
      const step = (load: typeof v128.load, store: (value: Code) => Code, floats: number): Code =>
        columns(floats, [
          sum.set(load(y.get)),
          p.map((pointer, i) => sum.set(madd(x[i]!.get, load(pointer.get), sum.get))),
          store(sum.get),
          p.map((pointer) => bump(pointer, i32.const(4 * floats))),
        ])
      return [
        p.map((pointer, i) => pointer.set(i === 0 ? b.get : i32.add(p[i - 1]!.get, ldb.get))),
        x.map((value, i) => value.set(v128.splat(a.get, 4 * i))),
        y.set(c.get),
        t.set(n.get),
        step(v128.load, (value) => v128.store(y.get, value), 4),
        step(v128.load1, (value) => v128.store1(y.get, value, 0), 1),
        bump(a, i32.const(4 * rows)),
        bump(b, i32.mul(ldb.get, i32.const(rows))),
        bump(k, i32.const(-rows)),
      ]
    }
    return [
      y.set(c.get),
      t.set(n.get),
      when(i32.not(int('add').get), [
        columns(4, v128.store(y.get, v128.zero)),
        columns(1, i32.store(y.get, i32.const(0))),
      ]),
      loop(i32.ge(k.get, i32.const(8)), block(8)),
      loop(i32.gt(k.get, i32.const(0)), block(1)),
    ]
  },
})

/** src [n, k] with rows `ld` apart → panels [k][8] of its transpose; columns past n repeat the last row. */
const packTransposed: Routine = {
  name: 'packTransposed',
  parameters: ['src', 'ld', 'n', 'dst', 'k'],
  body: ({ int, vec }) => {
    const [src, ld, n, dst, k] = ['src', 'ld', 'n', 'dst', 'k'].map(int) as [Local, Local, Local, Local, Local]
    const t = int('t')
    const p = range(8).map((i) => int(`p${i}`))
    const x = range(4).map((i) => vec(`x${i}`))
    const y = range(4).map((i) => vec(`y${i}`))
    const pair = (u: number, v: number, lanes: number[], from: Local[]): Code =>
      v128.shuffle(from[u]!.get, from[v]!.get, lanes)
    const half = (h: number): Code => [
      x.map((value, i) => value.set(v128.load(p[4 * h + i]!.get))),
      y[0]!.set(pair(0, 1, [0, 4, 1, 5], x)),
      y[1]!.set(pair(0, 1, [2, 6, 3, 7], x)),
      y[2]!.set(pair(2, 3, [0, 4, 1, 5], x)),
      y[3]!.set(pair(2, 3, [2, 6, 3, 7], x)),
      v128.store(dst.get, pair(0, 2, [0, 1, 4, 5], y), 16 * h),
      v128.store(dst.get, pair(0, 2, [2, 3, 6, 7], y), 16 * h + 32),
      v128.store(dst.get, pair(1, 3, [0, 1, 4, 5], y), 16 * h + 64),
      v128.store(dst.get, pair(1, 3, [2, 3, 6, 7], y), 16 * h + 96),
    ]
    const single = p.map((pointer, i) => i32.store(dst.get, i32.load(pointer.get), 4 * i))
    const advance = (count: number): Code => [
      p.map((pointer) => bump(pointer, i32.const(4 * count))),
      bump(dst, i32.const(32 * count)),
      bump(t, i32.const(-count)),
    ]
    return repeat(
      [
        p.map((pointer, i) =>
          pointer.set(i === 0 ? src.get : i32.add(p[i - 1]!.get, i32.mul(ld.get, i32.lt(i32.const(i), n.get)))),
        ),
        t.set(k.get),
        loop(i32.ge(t.get, i32.const(4)), [half(0), half(1), advance(4)]),
        loop(i32.gt(t.get, i32.const(0)), [single, advance(1)]),
        bump(src, i32.mul(ld.get, i32.const(8))),
        bump(n, i32.const(-8)),
      ],
      i32.gt(n.get, i32.const(0)),
    )
  },
}

/** `width` columns of src [k, ...] with rows `ld` apart → rows `step` apart: a panel of the left side, or of the right. */
const packColumns = (width: number): Routine => ({
  name: `columns${width}`,
  parameters: ['src', 'ld', 'dst', 'step', 'k'],
  body: ({ int }) => {
    const [src, ld, dst, step, k] = ['src', 'ld', 'dst', 'step', 'k'].map(int) as [Local, Local, Local, Local, Local]
    return repeat(
      [
        range(width >> 2).map((i) => v128.store(dst.get, v128.load(src.get, 16 * i), 16 * i)),
        range(width & 3).map((i) => {
          const at = 4 * ((width & ~3) + i)
          return i32.store(dst.get, i32.load(src.get, at), at)
        }),
        bump(src, ld.get),
        bump(dst, step.get),
        bump(k, i32.const(-1)),
      ],
      i32.gt(k.get, i32.const(0)),
    )
  },
})

/** every exported routine takes i32 and returns nothing */
export type GemmModule = Readonly<Record<string, (...values: number[]) => void>>

/** Bytes of the module; `relaxed` uses fused multiply-add. */
export const gemmBytes = (relaxed: boolean): Uint8Array<ArrayBuffer> =>
  assemble([
    ...range(rowsOf(relaxed)).flatMap((i) => [tile(i + 1, false, relaxed), tile(i + 1, true, relaxed)]),
    ...range(TOGETHER).map((i) => dots(i + 1, relaxed)),
    combination(relaxed),
    packTransposed,
    ...range(8).map((i) => packColumns(i + 1)),
    product(rowsOf(relaxed)),
  ])
