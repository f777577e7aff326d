/** Tries a library of unknown making in a process of its own, since one that is not what it seems may end the process. */

/** longer than any library takes to load and multiply four numbers */
const PATIENCE_MS = 10_000

/**
 * [1 2; 3 4]·[5 6; 7 8] with leading dimensions of 2³² + 2: a library of 32-bit integers sees 2 and answers 19 22 43 50,
 * one of 64 bits reads far outside the matrices.
 */
const program = `
const [koffiPath, path, multiplies] = process.argv.slice(1)
const koffi = require(koffiPath)
const lib = koffi.load(path)
process.stdout.write('loaded ')
if (!multiplies) process.exit()
const sgemm = lib.func('void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, float *a, int64_t lda, float *b, int64_t ldb, float beta, _Inout_ float *c, int64_t ldc)')
const [a, b, c] = [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]].map((values) => Float32Array.from(values))
const ld = 2n ** 32n + 2n
sgemm(101, 111, 111, 2, 2, 2, 1, a, ld, b, ld, 0, c, ld)
process.stdout.write('product ' + c.join(' '))
`

/** → '' where the library loads and, if it `multiplies`, its cblas_sgemm does as expected; else why it cannot be used. */
export const probe = async (path: string, multiplies: boolean): Promise<string> => {
  const { execFile } = process.getBuiltinModule('node:child_process')
  const { createRequire } = process.getBuiltinModule('node:module')
  const koffi = createRequire(import.meta.url).resolve('koffi')
  // an OpenBLAS that starts a thread for each core only to multiply four numbers is slow to load
  const env = { ...process.env, OPENBLAS_NUM_THREADS: '1', NODE_OPTIONS: '' }
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['-e', program, koffi, path, ...(multiplies ? ['yes'] : [])],
      { timeout: PATIENCE_MS, killSignal: 'SIGKILL', env },
      (error, stdout, stderr) => {
        const [where, wide] = ['a product of 2x2 matrices', 'it may take 64-bit integers (ILP64)']
        if (stdout === (multiplies ? 'loaded product 19 22 43 50' : 'loaded ')) resolve('')
        else if (error?.killed) resolve(`does not return from ${stdout ? where : 'being loaded'}`)
        else if (error?.signal)
          resolve(`ends the process (${error.signal}) ${stdout ? `in ${where}; ${wide}` : 'when it is loaded'}`)
        else if (stdout.includes('product')) resolve(`gives a wrong product (${stdout.slice(15, 75)}); ${wide}`)
        else resolve(`cannot be loaded (${/Error: (.*)/.exec(stderr)?.[1] ?? error?.code ?? 'for no stated reason'})`)
      },
    )
  })
}
