import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { launchBrowser } from '../../../tools/browser.mjs'

// runs on a page and in a worker; the worker of the second kind has no createWritable, as in older Safari
const program = `
import { openCheckpoint, opfsFolder, opfsSink, urlFolder, writeSafetensors } from '../src/checkpoint/index.ts'
const bytes = (values) => new Uint8Array(Float32Array.from(values).buffer)
const folderOf = async (name) => (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create: true })
const names = async (directory) => { const all = []; for await (const n of directory.keys()) all.push(n); return all.sort() }
const tensors = (scale) => [
  { name: 'a', dtype: 'F32', shape: [2, 3], data: bytes([1, 2, 3, 4, 5, 6].map((x) => x * scale)) },
  { name: 'b', dtype: 'F32', shape: [1], data: async () => bytes([7 * scale]) },
]
const read = async (folder) => {
  const checkpoint = await openCheckpoint(folder)
  const found = { metadata: { ...checkpoint.metadata }, a: [...await checkpoint.floats('a')], b: [...await checkpoint.floats('b')] }
  await checkpoint.close()
  return found
}
globalThis.check = async (name) => {
  const directory = await folderOf(name)
  await writeSafetensors(await opfsSink(directory, 'model.safetensors'), tensors(1), { made: 'first' })
  const first = await read(opfsFolder(directory))
  const failing = [...tensors(2), { name: 'c', dtype: 'F32', shape: [1], data: async () => { throw new Error('no more') } }]
  const error = await writeSafetensors(await opfsSink(directory, 'model.safetensors'), failing).catch((e) => e.message)
  const kept = await read(opfsFolder(directory))
  const after = await names(directory)
  await writeSafetensors(await opfsSink(directory, 'model.safetensors'), tensors(2), { made: 'second' })
  const second = await read(opfsFolder(directory))
  const absent = await openCheckpoint(opfsFolder(await folderOf(name + '-empty'))).catch((e) => e.message)
  return { first, error, kept, after, second, absent }
}
globalThis.ranged = async () => read(urlFolder(new URL('/model/', location.href)))
globalThis.onmessage = async ({ data: { name, plain } }) => {
  if (!plain) delete FileSystemFileHandle.prototype.createWritable
  postMessage(await check(name).catch((e) => ({ failed: String(e.stack) })))
}`

let browser: Awaited<ReturnType<typeof launchBrowser>>
let address = ''
const closing: (() => unknown)[] = []
const asked: string[] = []

/** {a: F32 [2, 3], b: F32 [1]} as a file */
const model = (): Buffer => {
  const json =
    '{"__metadata__":{"made":"there"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F32","shape":[1],"data_offsets":[24,28]}}'
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([size, header, Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6, 7).buffer)])
}

beforeAll(async () => {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: dirname(fileURLToPath(import.meta.url)), loader: 'js' },
    ...{ bundle: true, format: 'iife', write: false, platform: 'browser', logLevel: 'silent' },
  })
  const server = createServer(({ url = '/', method, headers }, response) => {
    if (url === '/program.js') response.setHeader('content-type', 'text/javascript').end(outputFiles[0]!.text)
    else if (url === '/model/model.safetensors') {
      const whole = model()
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? []
      if (method === 'GET') asked.push(headers.range ?? 'whole')
      if (from === undefined) return response.end(whole)
      const part = whole.subarray(Number(from), Number(to) + 1)
      response
        .writeHead(206, { 'content-range': `bytes ${from}-${Number(from) + part.length - 1}/${whole.length}` })
        .end(part)
    } else if (url === '/')
      response.setHeader('content-type', 'text/html').end('<!doctype html><script src="/program.js"></script>')
    else response.writeHead(404).end()
    return undefined
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => server.close())
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  browser = await launchBrowser()
  closing.push(() => browser.close())
}, 60_000)
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

const values = (scale: number): object => ({ a: [1, 2, 3, 4, 5, 6].map((x) => x * scale), b: [7 * scale] })
const expected = {
  first: { metadata: { made: 'first' }, ...values(1) },
  error: expect.stringContaining('no more'),
  kept: { metadata: { made: 'first' }, ...values(1) },
  after: ['model.safetensors'],
  second: { metadata: { made: 'second' }, ...values(2) },
  absent: expect.stringContaining('model.safetensors'),
}

it('writes and reads checkpoints in the private file system of Chromium, and keeps the old one when writing fails', async () => {
  const page = await browser.newPage()
  await page.goto(address)
  expect(await page.evaluate('check("page")')).toEqual(expected)
})

it.each([
  ['with createWritable', true],
  ['without it', false],
])('does so in a worker %s', async (_, plain) => {
  const page = await browser.newPage()
  await page.goto(address)
  const result = await page.evaluate(
    (plain: boolean) =>
      new Promise((resolve) => {
        const worker = new Worker('/program.js')
        worker.onmessage = ({ data }) => resolve(data)
        worker.postMessage({ name: `worker-${plain}`, plain })
      }),
    plain,
  )
  expect(result).toEqual(expected)
})

it('reads a checkpoint over HTTP by ranges', async () => {
  const page = await browser.newPage()
  await page.goto(address)
  expect(await page.evaluate('ranged()')).toEqual({ metadata: { made: 'there' }, ...values(1) })
  expect(asked.length).toBeGreaterThan(0)
  expect(asked).not.toContain('whole')
})
