import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { launchBrowser } from '../../../tools/browser.mjs'

// The page runs the rows of the fused kernels and of what our own kernels replace.
const program = `
import { backend } from '@tensorflow/tfjs-core'
import * as w from '../src/index.ts'
import { conform, fused, onlyShaders, table } from './conformance/run.ts'
const chosen = [...table.filter(({ name }) => /^(matMul|gather|cast|transpose|sin|cos|exp|add)/.test(name)), ...fused]
const refused = []
globalThis.start = async (name) => {
  await w.cpu()
  const found = name === 'webgpu' ? await w.webgpu() : await w.wasm({ paths: '/wasm/' })
  if (name === 'webgpu') {
    onlyShaders()
    backend().device.addEventListener('uncapturederror', (e) => refused.push(e.error.message))
  }
  return found.name
}
globalThis.check = async (name) => {
  const wrong = []
  for (const row of chosen) await conform(row, name, name === 'webgpu' ? 1 : 3).catch((e) => wrong.push(String(e.cause?.message ?? e.message)))
  return { ran: chosen.length, wrong, refused: refused.splice(0) }
}
globalThis.ready = true`

const closing: (() => unknown)[] = []
const noise: string[] = []
let page: Page
beforeAll(async () => {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: dirname(fileURLToPath(import.meta.url)), loader: 'js' },
    bundle: true,
    format: 'esm',
    splitting: true,
    outdir: 'out',
    write: false,
    platform: 'browser',
    conditions: ['@weftjs/source'],
    logLevel: 'silent',
  })
  const scripts = new Map(outputFiles.map(({ path, text }) => [basename(path), text]))
  const binaries = dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm'))
  const server = createServer(async ({ url = '/' }, response) => {
    const name = basename(url)
    const script = scripts.get(name)
    if (url.startsWith('/wasm/'))
      response.setHeader('content-type', 'application/wasm').end(await readFile(join(binaries, name)))
    else if (script !== undefined) response.setHeader('content-type', 'text/javascript').end(script)
    else
      response
        .setHeader('content-type', 'text/html')
        .end('<!doctype html><link rel="icon" href="data:,"><script type="module" src="/stdin.js"></script>')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => server.close())
  const browser = await launchBrowser({
    // SwiftShader takes seconds per shader to compile the extension's zeroing of workgroup memory
    args: ['--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension'],
  })
  closing.push(() => browser.close())
  page = await browser.newPage()
  page.on('console', (message) => noise.push(message.text()))
  page.on('pageerror', (error) => noise.push(error.message))
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  await page.waitForFunction('globalThis.ready', null, { timeout: 30_000 })
})
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

describe('in Chromium, as cpu does', () => {
  for (const name of ['wasm', 'webgpu'])
    it(name, async () => {
      expect(await page.evaluate(`start('${name}')`)).toBe(name)
      const { ran, wrong, refused } = (await page.evaluate(`check('${name}')`)) as {
        ran: number
        wrong: string[]
        refused: string[]
      }
      expect(wrong).toEqual([])
      expect(refused).toEqual([])
      expect(ran).toBeGreaterThan(40)
      expect(noise.splice(0)).toEqual([])
    }, 120_000)
})
