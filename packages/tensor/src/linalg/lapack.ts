import { findNative, type NativeKind, type NativeLibrary } from '../native.ts'
import { balanced, type Matrix, matrix, multiply, transpose } from './matrix.ts'
import { type Routines, routines } from './routines.ts'

/** What `useLapack` switched to. */
export interface Lapack {
  readonly path: string
  readonly kind: NativeKind
  readonly threads?: number
}

/** what a library must export */
export const SYMBOLS: readonly string[] = [
  ...['dgesdd_', 'dgelqf_', 'dorglq_', 'dsyevd_', 'dpotrf_', 'dgetrf_', 'dgemm_', 'dsyrk_'],
]

type Argument = Float64Array | Int32Array | string | number
/** Calls a Fortran routine; numbers go by reference. */
type Call = (...args: Argument[]) => void

/**
 * A Fortran routine whose arguments are as `kinds` says: `c` a character, `i` an integer, `d` a double, `p` an array.
 * Integers are written 64 bits wide, so that a library that wants 64 reads no rubbish before we can refuse it;
 * gfortran's hidden lengths of characters follow the arguments.
 */
const fortran = (lib: NativeLibrary, name: string, kinds: string): Call => {
  const letters = [...kinds]
  const characters = letters.filter((kind) => kind === 'c').length
  const types = [
    ...letters.map((kind) => (kind === 'c' ? 'const char *' : 'void *')),
    ...Array(characters).fill('size_t'),
  ]
  const call = lib.func(`void ${name}(${types.join(', ')})`)
  const lengths = Array(characters).fill(1)
  return (...args) =>
    call(
      ...args.map((arg, at) =>
        letters[at] === 'i' && typeof arg === 'number'
          ? Int32Array.of(arg, 0)
          : letters[at] === 'd' && typeof arg === 'number'
            ? Float64Array.of(arg)
            : arg,
      ),
      ...lengths,
    )
}

/** Room for `count` integers of either width. */
const integers = (count: number): Int32Array => new Int32Array(2 * Math.max(1, count))
const fits = (...sizes: number[]): boolean => sizes.every((n) => n > 0) && sizes.reduce((p, n) => p * n, 1) < 2 ** 31

/** Row-major A is column-major Aᵀ: each routine is called on Aᵀ, with the factors' parts exchanged. */
const bind = (lib: NativeLibrary): Routines => {
  const gesdd = fortran(lib, 'dgesdd_', 'ciipippipipipi')
  const gelqf = fortran(lib, 'dgelqf_', 'iipippii')
  const orglq = fortran(lib, 'dorglq_', 'iiipippii')
  const syevd = fortran(lib, 'dsyevd_', 'ccipippipii')
  const potrf = fortran(lib, 'dpotrf_', 'cipii')
  const getrf = fortran(lib, 'dgetrf_', 'iipipi')
  const gemm = fortran(lib, 'dgemm_', 'cciiidpipidpi')
  const syrk = fortran(lib, 'dsyrk_', 'cciidpidpi')
  const info = integers(1)
  const failed = (): boolean => info[0] !== 0
  return {
    svd: (a) => {
      const { rows: m, cols: n } = a
      const k = Math.min(m, n)
      if (!fits(m, n)) return undefined
      const { data, undo } = balanced(a)
      const s = new Float64Array(k)
      const [u, v] = [new Float64Array(m * k), new Float64Array(k * n)]
      const iwork = integers(8 * k)
      const room = new Float64Array(1)
      gesdd('S', n, m, data, n, s, v, n, u, k, room, -1, iwork, info)
      if (failed()) return undefined
      const size = Math.ceil(room[0]!)
      gesdd('S', n, m, data, n, s, v, n, u, k, new Float64Array(size), size, iwork, info)
      if (failed()) return undefined
      return { u: matrix(m, k, u), s: s.map((x) => x * undo), v: transpose(matrix(k, n, v)) }
    },
    qr: (a) => {
      const { rows: m, cols: n } = a
      const k = Math.min(m, n)
      if (!fits(m, n)) return undefined
      const { data, undo } = balanced(a)
      const tau = new Float64Array(k)
      const size = 64 * Math.max(m, n)
      const work = new Float64Array(size)
      gelqf(n, m, data, n, tau, work, size, info)
      if (failed()) return undefined
      const r = new Float64Array(k * n)
      for (let i = 0; i < k; i++) for (let j = i; j < n; j++) r[i * n + j] = data[i * n + j]! * undo
      orglq(k, m, k, data, n, tau, work, size, info)
      if (failed()) return undefined
      const q = new Float64Array(m * k)
      for (let i = 0; i < m; i++) q.set(data.subarray(i * n, i * n + k), i * k)
      return { q: matrix(m, k, q), r: matrix(k, n, r) }
    },
    eigh: (a) => {
      const n = a.rows
      if (!fits(n, n)) return undefined
      const { data, undo } = balanced(a)
      const values = new Float64Array(n)
      const room = new Float64Array(1)
      const iroom = integers(1)
      syevd('V', 'L', n, data, n, values, room, -1, iroom, -1, info)
      if (failed()) return undefined
      const [size, isize] = [Math.ceil(room[0]!), iroom[0]!]
      syevd('V', 'L', n, data, n, values, new Float64Array(size), size, integers(isize), isize, info)
      if (failed()) return undefined
      return { values: values.map((x) => x * undo), vectors: transpose(matrix(n, n, data)) }
    },
    cholesky: (a) => {
      if (!fits(a.rows, a.rows)) return undefined
      const data = a.data.slice()
      potrf('U', a.rows, data, a.rows, info)
      return failed() ? undefined : matrix(a.rows, a.rows, data)
    },
    lu: (a) => {
      const n = a.rows
      if (!fits(n, n)) return undefined
      const { data } = transpose(a)
      const pivots = integers(n)
      getrf(n, n, data, n, pivots, info)
      if (info[0]! < 0) return undefined // above 0: singular, and still a factorization
      return { packed: transpose(matrix(n, n, data)), pivots: pivots.slice(0, n).map((p) => p - 1) }
    },
    multiply: (a, b) => {
      const [m, k, n] = [a.rows, a.cols, b.cols]
      if (m * k * n < 4096 || !fits(m, n) || !fits(m, k) || !fits(k, n)) return undefined
      const out = new Float64Array(m * n)
      gemm('N', 'N', n, m, k, 1, b.data, n, a.data, k, 0, out, n)
      return matrix(m, n, out)
    },
    gram: (a, of) => {
      const [n, inner] = of === 'columns' ? [a.cols, a.rows] : [a.rows, a.cols]
      if (n * n * inner < 4096 || !fits(n, n) || !fits(n, inner)) return undefined
      const out = new Float64Array(n * n)
      syrk('L', of === 'columns' ? 'N' : 'T', n, inner, 1, a.data, a.cols, 0, out, n)
      // column-major's lower half is the upper one here
      for (let i = 1; i < n; i++) for (let j = 0; j < i; j++) out[i * n + j] = out[j * n + i]!
      return matrix(n, n, out)
    },
  }
}

const distance = (a: Matrix, b: Matrix): number =>
  a.data.reduce((top, v, i) => Math.max(top, Math.abs(v - b.data[i]!)), 0)

/** Runs every routine once on small matrices; says what is wrong, or nothing. */
const trial = (r: Routines): string | undefined => {
  const probe = r.lu!(matrix(2, 2, [1, 2, 3, 5]))
  // rows are exchanged in the first step and not in the second: 64-bit pivots would leave a zero between them
  if (probe?.pivots[0] !== 1 || probe.pivots[1] !== 1)
    return 'its integers are 64 bits wide; a 32-bit (LP64) build is needed'
  const [m, n] = [33, 20]
  const a = matrix(
    m,
    n,
    Array.from({ length: m * n }, (_, i) => Math.sin(i * i + 1)),
  )
  const bad = (got: Matrix, want: Matrix): boolean => !(distance(got, want) < 1e-10)
  const at = transpose(a)
  const gram = multiply(at, a)
  const product = r.multiply!(at, a)
  if (!product || bad(product, gram)) return 'its dgemm gives wrong products'
  const [columns, rows] = [r.gram!(a, 'columns'), r.gram!(a, 'rows')]
  if (!columns || !rows || bad(columns, gram) || bad(rows, multiply(a, at))) return 'its dsyrk gives wrong products'
  const f = r.svd!(a)
  const us =
    f &&
    matrix(
      m,
      n,
      f.u.data.map((v, i) => v * f.s[i % n]!),
    )
  if (!f || !us || bad(multiply(us, transpose(f.v)), a)) return 'its dgesdd gives wrong factors'
  const o = r.qr!(a)
  if (!o || bad(multiply(o.q, o.r), a)) return 'its dgelqf gives wrong factors'
  const e = r.eigh!(gram)
  const ve =
    e &&
    matrix(
      n,
      n,
      e.vectors.data.map((v, i) => v * e.values[i % n]!),
    )
  if (!e || !ve || bad(multiply(ve, transpose(e.vectors)), gram)) return 'its dsyevd gives wrong factors'
  const lower = matrix(
    n,
    n,
    gram.data.map((v, i) => (i % n <= Math.floor(i / n) ? v : 0)),
  )
  const l = r.cholesky!(lower)
  if (!l || bad(multiply(l, transpose(l)), gram)) return 'its dpotrf gives wrong factors'
  return undefined
}

/** Do the factorizations call the system's LAPACK? */
export const hasLapack = (): boolean => routines.cholesky !== undefined

/** Back to the factorizations in JavaScript. */
export const dropLapack = (): void => {
  for (const name of Object.keys(routines)) delete routines[name as keyof Routines]
}

/**
 * From here on svd, qr, eigh, cholesky, lu and multiply call the system's LAPACK, in Node where one is found and gives
 * right answers on a trial; says which, or why not. Never throws. Results agree with ours up to rounding and to the
 * sign of singular and eigenvectors. WEFT_BLAS=off forbids it, WEFT_BLAS=path names a library.
 */
export const useLapack = async (): Promise<Lapack | { missing: string }> => {
  dropLapack()
  const found = await findNative({ needs: SYMBOLS })
  if ('missing' in found) return found
  try {
    const bound = bind(found.lib)
    const wrong = trial(bound)
    if (wrong) return { missing: `${found.path}: ${wrong}` }
    Object.assign(routines, bound)
  } catch (error) {
    return { missing: `${found.path}: ${(error as Error).message}` }
  }
  const { path, kind, threads } = found
  return threads === undefined ? { path, kind } : { path, kind, threads }
}
