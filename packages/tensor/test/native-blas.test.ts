import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { cores } from '../src/cores.ts'
import { findNative, kindOf, LIBRARIES, type NativeLibrary } from '../src/native.ts'

const folder = mkdtempSync(join(tmpdir(), 'weft-blas-'))
afterAll(() => rmSync(folder, { recursive: true }))
afterEach(() => {
  vi.unstubAllEnvs()
})

const find = async (path: string, needs?: readonly string[]): Promise<string> => {
  vi.stubEnv('WEFT_BLAS', path)
  const found = await findNative(needs ? { needs } : {})
  return 'missing' in found ? found.missing : `${found.kind} ${found.threads ?? ''}`.trim()
}

const compiles = (): boolean => {
  try {
    execFileSync('gcc', ['--version'])
    return process.platform === 'linux'
  } catch {
    return false
  }
}

/** a library whose cblas_sgemm takes integers of this type */
const compile = (name: string, int: string, more = ''): string => {
  const [source, library] = [join(folder, `${name}.c`), join(folder, `lib${name}.so`)]
  writeFileSync(
    source,
    `#include <stdlib.h>
${more}
typedef ${int} I;
void cblas_sgemm(int order, int ta, int tb, I m, I n, I k, float alpha, const float *a, I lda, const float *b, I ldb,
    float beta, float *c, I ldc) {
  for (I i = 0; i < m; i++)
    for (I j = 0; j < n; j++) {
      float sum = 0;
      for (I p = 0; p < k; p++) sum += a[i * lda + p] * b[p * ldb + j];
      c[i * ldc + j] = sum;
    }
}
`,
  )
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, source])
  return library
}

describe('a library named in WEFT_BLAS', () => {
  it.each([
    ['/nowhere/libblas.so', /cannot be loaded/],
    ['/', /cannot be loaded/],
    [join(folder, 'text.so'), /cannot be loaded/],
    ['off', /switched off/],
  ])('%s is refused with a reason', async (path, reason) => {
    writeFileSync(join(folder, 'text.so'), 'no library\n')
    expect(await find(path)).toMatch(reason)
  })

  it.skipIf(!compiles())('is taken when it multiplies, with integers of 32 bits', async () => {
    expect(await find(compile('plain', 'int'))).toBe('lapack')
  })

  it.skipIf(!compiles())('is refused with integers of 64 bits', async () => {
    expect(await find(compile('wide', 'long'))).toMatch(/libwide\.so .*ILP64/)
  })

  it.skipIf(!compiles())('is refused when it ends the process that loads it', async () => {
    const library = compile('fatal', 'int', '__attribute__((constructor)) static void at_once(void) { abort(); }')
    expect(await find(library)).toMatch(/ends the process \(SIGABRT\) when it is loaded/)
    expect(await find(library, ['dpotrf_'])).toMatch(/ends the process/)
  })

  it.skipIf(!compiles())('is refused when it lacks what is needed', async () => {
    expect(await find(compile('less', 'int'), ['cblas_sgemm', 'cblas_sgemv'])).toMatch(/does not export cblas_sgemv/)
  })
})

describe('which library', () => {
  const exporting = (...names: string[]): NativeLibrary => ({
    func: (signature) => {
      if (names.some((name) => signature.includes(`${name}(`))) return () => 0
      throw new Error(`no ${signature}`)
    },
  })

  it.each([
    ['libblas.so.3', ['openblas_set_num_threads', 'cblas_sgemm'], 'openblas'],
    ['libmkl_rt.so.2', ['MKL_Set_Num_Threads', 'cblas_sgemm'], 'mkl'],
    ['libblis.so.4', ['bli_thread_set_num_threads', 'cblas_sgemm'], 'blis'],
    ['/System/Library/Frameworks/Accelerate.framework/Accelerate', ['cblas_sgemm'], 'accelerate'],
    ['libblas.so.3', ['cblas_sgemm'], 'lapack'],
  ] as const)('%s exporting %s is %s', (path, names, kind) => {
    expect(kindOf(path, exporting(...names))).toBe(kind)
  })

  it('is looked for by name on three platforms', () => {
    expect(Object.keys(LIBRARIES)).toEqual(['linux', 'darwin', 'win32'])
    for (const [platform, end] of [
      ['linux', /\.so(\.\d)?$/],
      ['darwin', /(\.dylib|Accelerate)$/],
      ['win32', /\.dll$/],
    ] as const)
      for (const path of LIBRARIES[platform]!) expect(path).toMatch(end)
  })
})

describe('threads', () => {
  it('are as many as asked for, else the cores', async () => {
    vi.stubEnv('OPENBLAS_NUM_THREADS', undefined)
    vi.stubEnv('OMP_NUM_THREADS', undefined)
    vi.stubEnv('WEFT_THREADS', undefined)
    const found = await findNative({ needs: ['cblas_sgemm', 'cblas_sdot'] })
    if ('missing' in found) return
    if (found.threads) expect(found.threads).toBe(cores())
    vi.stubEnv('WEFT_THREADS', '1')
    const one = await findNative({ needs: ['cblas_sgemm', 'cblas_saxpy'] })
    if (found.threads) expect(one).toMatchObject({ threads: 1 })
    vi.stubEnv('OPENBLAS_NUM_THREADS', '2')
    const two = await findNative({ needs: ['cblas_sgemm', 'cblas_sscal'] })
    if (found.threads) expect(two).toMatchObject({ threads: 2 })
  })

  it('are at least one', () => {
    expect(cores()).toBeGreaterThanOrEqual(1)
  })
})
