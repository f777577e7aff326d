import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterAll, expect, it } from 'vitest'
import { launchBrowser } from '../../../tools/browser.mjs'

const program = `
import { backend, getKernel, matMul, setBackend, tensor } from '@tensorflow/tfjs-core'
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import { installWasmMatmul } from '../src/wasm-matmul.ts'
setWasmPaths('/wasm/')
globalThis.compare = async () => {
  await setBackend('wasm')
  const values = (n, seed) => Float32Array.from({ length: n }, (_, i) => {
  const x = Math.imul(i + seed * 7919, 0x9e3779b1)
  const y = Math.imul(x ^ (x >>> 15), 0x85ebca77)
  return (y ^ (y >>> 13)) / 2 ** 31
})
  const products = []
  for (const [m, n, k] of [[1, 70, 40], [7, 33, 21], [50, 300, 600]])
    for (const [tA, tB] of [[false, false], [false, true], [true, false], [true, true]])
      products.push(() => {
        const a = tensor(values(m * k, 1), tA ? [k, m] : [m, k])
        const b = tensor(values(k * n, 2), tB ? [n, k] : [k, n])
        return matMul(a, b, tA, tB).dataSync()
      })
  const stock = products.map((product) => product())
  const before = getKernel('BatchMatMul', 'wasm').kernelFunc
  const installed = await installWasmMatmul(backend())
  const replaced = getKernel('BatchMatMul', 'wasm').kernelFunc !== before
  const gaps = products.map((product, p) => product().reduce((worst, x, i) => Math.max(worst, Math.abs(x - stock[p][i])), 0))
  return { installed, replaced, gap: Math.max(...gaps) }
}`

const inThreads = `
import { backend, matMul, tensor } from '@tensorflow/tfjs-core'
import { wasm } from '../src/wasm.ts'
import { assemble, i32, loop } from '../src/wasm/assemble.ts'
import { isShared } from '../src/wasm/share.ts'
import { poolOf } from '../src/wasm/threads.ts'
const mark = {
  name: 'mark',
  parameters: ['at', 'turns', 'thread'],
  body: ({ int }) => [
    loop(i32.gt(int('turns').get, i32.const(0)), int('turns').set(i32.sub(int('turns').get, i32.const(1)))),
    i32.store(int('at').get, i32.add(int('thread').get, i32.const(1))),
  ],
}
globalThis.compare = async () => {
  await wasm({ paths: '/wasm/' })
  const shared = isShared(backend().wasm.HEAPU8.buffer)
  const pool = poolOf(backend())
  const { each } = pool.load(assemble([mark]))
  const seen = new Set()
  const at = backend().wasm._malloc(800)
  for (let i = 0; i < (shared ? 200 : 2) && seen.size < 2; i++) {
    each('mark', Array.from({ length: 200 }, (_, j) => [at + 4 * j, 20000]))
    for (const word of new Int32Array(backend().wasm.HEAPU8.buffer, at, 200)) seen.add(word - 1)
    await new Promise((done) => setTimeout(done, 20))
  }
  const [m, n, k] = [70, 300, 200]
  const values = (size, seed) => Float32Array.from({ length: size }, (_, i) => ((i * seed) % 101) / 101 - 0.5)
  const [a, b] = [values(m * k, 37), values(n * k, 53)]
  const y = matMul(tensor(a, [m, k]), tensor(b, [n, k]), false, true).dataSync()
  let gap = 0
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0
      for (let p = 0; p < k; p++) sum += a[i * k + p] * b[j * k + p]
      gap = Math.max(gap, Math.abs(y[i * n + j] - sum))
    }
  return { shared, threads: pool.threads, seen: [...seen].sort(), gap }
}`

const closing: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

interface PageOptions {
  /** whether the page may share memory with workers */
  readonly isolated?: boolean
}

/** What the program's compare() gives in a page of its own. */
const inPage = async (contents: string, { isolated = false }: PageOptions = {}): Promise<Record<string, unknown>> => {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: dirname(fileURLToPath(import.meta.url)), loader: 'js' },
    bundle: true,
    format: 'iife',
    write: false,
    platform: 'browser',
    logLevel: 'silent',
  })
  const binaries = dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm'))
  const server = createServer(async ({ url = '/' }, response) => {
    if (isolated)
      response
        .setHeader('cross-origin-opener-policy', 'same-origin')
        .setHeader('cross-origin-embedder-policy', 'require-corp')
    if (url.startsWith('/wasm/')) {
      response.setHeader('content-type', 'application/wasm').end(await readFile(join(binaries, basename(url))))
    } else if (url === '/program.js') response.setHeader('content-type', 'text/javascript').end(outputFiles[0]!.text)
    else response.setHeader('content-type', 'text/html').end('<!doctype html><script src="/program.js"></script>')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => server.close())
  const browser = await launchBrowser()
  closing.push(() => browser.close())
  const page = await browser.newPage()
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  return page.evaluate('compare()')
}

// A browser's engine has relaxed SIMD, so this runs the fused variant too.
it('multiplies on the wasm heap in Chromium as tfjs does', async () => {
  const result = await inPage(program)
  expect(result).toMatchObject({ installed: true, replaced: true })
  expect(result['gap']).toBeLessThan(5e-5)
})

it('multiplies in workers where the page is cross-origin isolated', async () => {
  const { gap, ...result } = await inPage(inThreads, { isolated: true })
  const threads = availableParallelism()
  expect(result).toMatchObject({ shared: threads > 1, threads })
  expect((result['seen'] as number[]).length).toBeGreaterThanOrEqual(Math.min(2, threads))
  expect(gap).toBeLessThan(5e-5)
})

it('multiplies alone where the page is not', async () => {
  const { gap, ...result } = await inPage(inThreads)
  expect(result).toEqual({ shared: false, threads: 1, seen: [0] })
  expect(gap).toBeLessThan(5e-5)
})
