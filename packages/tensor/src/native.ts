/**
 * Finds a BLAS or LAPACK that the system already has, in Node only. Nothing here is imported by a browser's path:
 * `koffi` (an optional peer) and Node's own modules are reached when a function is called.
 */

import { cores } from './cores.ts'
import { probe } from './native-probe.ts'

/** What a koffi library offers, as far as we use it; koffi's own types stay out of our declarations. */
export interface NativeLibrary {
  func(signature: string): (...args: any[]) => any
}

export type NativeKind = 'openblas' | 'accelerate' | 'mkl' | 'blis' | 'lapack'

export interface Native {
  /** as given to the loader: a file, or a name that it resolves */
  readonly path: string
  readonly kind: NativeKind
  readonly lib: NativeLibrary
  /** threads that the library was told to use; absent where it cannot be told */
  readonly threads?: number
}

export interface FindNativeOptions {
  /** symbols the library must export */
  needs?: readonly string[]
}

type Koffi = {
  load(path: string | null): NativeLibrary
  config(values?: Record<string, number>): Record<string, number>
}

/** tried in this order on each platform */
export const LIBRARIES: Readonly<Record<string, readonly string[]>> = {
  linux: [
    'libopenblas.so.0',
    'libopenblas.so',
    'libmkl_rt.so.2',
    'libmkl_rt.so',
    'libblis.so.4',
    'libblis.so',
    'liblapack.so.3',
    'libblas.so.3',
  ],
  darwin: [
    '/System/Library/Frameworks/Accelerate.framework/Accelerate',
    '/opt/homebrew/opt/openblas/lib/libopenblas.dylib',
    '/usr/local/opt/openblas/lib/libopenblas.dylib',
  ],
  win32: ['libopenblas.dll', 'openblas.dll', 'mkl_rt.2.dll', 'mkl_rt.dll'],
}

const has = (lib: NativeLibrary, name: string): boolean => {
  try {
    lib.func(`void ${name}(void)`)
    return true
  } catch {
    return false
  }
}

/** What a library is, by the names it exports. */
export const kindOf = (path: string, lib: NativeLibrary): NativeKind =>
  path.includes('Accelerate')
    ? 'accelerate'
    : has(lib, 'openblas_set_num_threads')
      ? 'openblas'
      : has(lib, 'MKL_Set_Num_Threads')
        ? 'mkl'
        : has(lib, 'bli_thread_set_num_threads')
          ? 'blis'
          : 'lapack'

/** SkylakeX's kernels are the oldest with AVX-512: a build that does not know this processor would take slower ones. */
const skylakeX = (): boolean => {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false
  try {
    const flags =
      process
        .getBuiltinModule('node:fs')
        .readFileSync('/proc/cpuinfo', 'utf8')
        .match(/^flags.*$/m)?.[0] ?? ''
    return ['avx512f', 'avx512cd', 'avx512bw', 'avx512dq', 'avx512vl'].every((flag) => flags.includes(flag))
  } catch {
    return false
  }
}

/** Sets variables of the C environment for as long as `run` takes; a worker's process.env is only a copy, hence setenv. */
const withEnvironment = <T>(koffi: Koffi, variables: Readonly<Record<string, string>>, run: () => T): T => {
  const names = Object.keys(variables).filter((name) => process.env[name] === undefined)
  if (names.length === 0) return run()
  const libc = koffi.load(null)
  const setenv = libc.func('int setenv(const char *name, const char *value, int overwrite)')
  const unsetenv = libc.func('int unsetenv(const char *name)')
  for (const name of names) setenv(name, variables[name], 1)
  try {
    return run()
  } finally {
    for (const name of names) unsetenv(name)
  }
}

/** Why integers of this library are not the 32-bit ones that we pass, as far as it tells; '' where it does not. */
const refusal = (kind: NativeKind, lib: NativeLibrary): string => {
  const wide = 'takes 64-bit integers (ILP64); a 32-bit (LP64) build is needed'
  if (kind === 'openblas' && has(lib, 'openblas_get_config'))
    return String(lib.func('const char *openblas_get_config(void)')()).includes('USE64BITINT') ? wide : ''
  if (kind === 'blis' && has(lib, 'bli_info_get_blas_int_size'))
    return Number(lib.func('int64_t bli_info_get_blas_int_size(void)')()) === 32 ? '' : wide
  if (kind === 'mkl' && process.env.MKL_INTERFACE_LAYER?.includes('ILP64')) return `${wide}: unset MKL_INTERFACE_LAYER`
  return ''
}

/** Threads for the library: what its user, or ours, asked for, or a thread for each core. */
const threadsFor = (): number => {
  const { OPENBLAS_NUM_THREADS, OMP_NUM_THREADS, WEFT_THREADS } = process.env
  const asked = Number(OPENBLAS_NUM_THREADS ?? OMP_NUM_THREADS ?? WEFT_THREADS)
  return asked >= 1 ? Math.floor(asked) : cores()
}

/** libraries that tell what they are; any other is tried in a process of its own first */
const tells = (kind: NativeKind): boolean => kind !== 'lapack'

const open = async (
  koffi: Koffi,
  path: string,
  needs: readonly string[],
  given: boolean,
): Promise<Native | { missing: string }> => {
  try {
    // a path from the user may be anything; it is loaded elsewhere before it is loaded here
    const doubt = given ? await probe(path, needs.includes('cblas_sgemm')) : ''
    if (doubt) return { missing: `${path} ${doubt}` }
    const lib = withEnvironment(koffi, skylakeX() ? { OPENBLAS_CORETYPE: 'SkylakeX' } : {}, () => koffi.load(path))
    const absent = needs.filter((name) => !has(lib, name))
    if (absent.length > 0) return { missing: `${path} does not export ${absent.join(', ')}` }
    const kind = kindOf(path, lib)
    const unfit =
      refusal(kind, lib) || (tells(kind) || given || !has(lib, 'cblas_sgemm') ? '' : await probe(path, true))
    if (unfit) return { missing: `${path} ${unfit}` }
    if (kind !== 'openblas' && kind !== 'blis') return { path, kind, lib }
    const threads = threadsFor()
    if (kind === 'openblas') lib.func('void openblas_set_num_threads(int n)')(threads)
    else lib.func('void bli_thread_set_num_threads(int64_t n)')(threads)
    return { path, kind, lib, threads }
  } catch (error) {
    return { missing: `${path} cannot be loaded (${(error as Error).message.split('\n')[0]})` }
  }
}

const search = async (
  needs: readonly string[],
  override: string | undefined,
): Promise<Native | { missing: string }> => {
  const name = 'koffi' // a name in a variable: bundlers leave the import alone
  let koffi: Koffi
  try {
    const module = (await import(/* @vite-ignore */ name)) as Koffi & { default?: Koffi }
    koffi = module.default ?? module
  } catch (error) {
    return {
      missing: `the optional package koffi cannot be loaded (${(error as Error).message.split('\n')[0]}); npm i koffi`,
    }
  }
  const paths = override ? [override] : (LIBRARIES[process.platform] ?? [])
  const reasons: string[] = []
  for (const path of paths) {
    const found = await open(koffi, path, needs, override !== undefined)
    if (!('missing' in found)) return found
    if (override || !found.missing.includes('No such file')) reasons.push(found.missing)
  }
  const remedy = override
    ? 'WEFT_BLAS must be "off" or the path of a library'
    : 'install OpenBLAS (Debian: apt install libopenblas0) or name a library in WEFT_BLAS'
  return {
    missing: `no system library with ${needs.join(', ')}; ${remedy}: ${reasons.join('; ') || `none is installed here (${process.platform})`}`,
  }
}

const known = new Map<string, Promise<Native | { missing: string }>>()

/**
 * The system's BLAS or LAPACK, loaded through koffi, or why there is none. Never throws; each answer is kept.
 * WEFT_BLAS=off forbids it, WEFT_BLAS=path names one library. OPENBLAS_NUM_THREADS,
 * OMP_NUM_THREADS or WEFT_THREADS set the threads, OPENBLAS_CORETYPE the kernels of OpenBLAS.
 */
export const findNative = ({
  needs = ['cblas_sgemm'],
}: FindNativeOptions = {}): Promise<Native | { missing: string }> => {
  if (typeof process === 'undefined' || !process.versions?.node) return Promise.resolve({ missing: 'not Node' })
  const override = process.env.WEFT_BLAS
  if (override === 'off') return Promise.resolve({ missing: 'switched off by WEFT_BLAS=off' })
  const key = JSON.stringify([override, needs])
  const found = known.get(key) ?? search(needs, override)
  known.set(key, found)
  return found
}
