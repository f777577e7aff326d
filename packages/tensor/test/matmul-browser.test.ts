import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
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

const closing: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

// A browser's engine has relaxed SIMD, which Node 20 has not, so this runs the fused variant too.
it('multiplies on the wasm heap in Chromium as tfjs does', async () => {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: dirname(fileURLToPath(import.meta.url)), loader: 'js' },
    bundle: true,
    format: 'iife',
    write: false,
    platform: 'browser',
    logLevel: 'silent',
  })
  const binaries = dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm'))
  const server = createServer(async ({ url = '/' }, response) => {
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
  const result = await page.evaluate('compare()')
  expect(result).toMatchObject({ installed: true, replaced: true })
  expect((result as { gap: number }).gap).toBeLessThan(5e-5)
})
