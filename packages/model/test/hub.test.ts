import { createHash } from 'node:crypto'
import { lstat, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cpu } from '@weftjs/tensor'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { neededOf, parseHubName } from '../src/hub.ts'
import { load, openModel, snapshot } from '../src/node.ts'
import { models } from './fixture.ts'

await cpu()
const COMMIT = 'c0ffee'.padEnd(40, '0')
const files = new Map<string, Buffer>()
/** bytes after which the server drops the line, once */
let breakAt: number | undefined
let asked: string[] = []
let server: Server
let hubUrl = ''
let cacheDir = ''
let listing: (path: string) => object = (path) => entry(path)

const isLarge = (path: string): boolean => path.endsWith('.safetensors')
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const gitHash = (bytes: Buffer): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
const entry = (path: string): object => {
  const bytes = files.get(path)!
  const large = isLarge(path) && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }
  return { type: 'file', path, size: bytes.length, oid: gitHash(bytes), ...large }
}

beforeAll(async () => {
  // the hub's endpoints, as far as a download needs them
  server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, 'http://hub')
    asked.push(`${pathname}${request.headers.range ? ` ${request.headers.range}` : ''}`)
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(value))
    }
    if (pathname === '/api/models/org/secret/revision/main') return json({ error: 'Access is restricted' }, 403)
    const info = /^\/api\/models\/org\/(tiny|adapter)\/revision\/(main|v1)$/.exec(pathname)
    if (info) return json({ _id: '1', id: `org/${info[1]}`, sha: COMMIT, lastModified: '2026-01-01T00:00:00Z' })
    if (pathname === `/api/models/org/adapter/tree/${COMMIT}`)
      return json([{ type: 'file', path: 'adapter_config.json', size: 2, oid: gitHash(Buffer.from('{}')) }])
    if (pathname === `/api/models/org/tiny/tree/${COMMIT}`)
      return json([{ type: 'directory', path: 'onnx' }, ...[...files.keys()].map((f) => listing(f))])
    const path = new RegExp(`^/org/tiny/resolve/${COMMIT}/(.+)$`).exec(pathname)?.[1]
    const bytes = path === undefined ? undefined : files.get(path)
    if (!bytes) return json({ error: 'Repository not found' }, 404)
    const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '')
    const from = Number(range?.[1] ?? 0)
    const to = range?.[2] ? Number(range[2]) + 1 : bytes.length
    response.writeHead(range ? 206 : 200, {
      etag: `"${gitHash(bytes)}"`,
      'content-length': to - from,
      ...(range && { 'content-range': `bytes ${from}-${to - 1}/${bytes.length}` }),
    })
    if (breakAt !== undefined && isLarge(path!) && to - from > 1) {
      const cut = breakAt
      breakAt = undefined
      response.write(bytes.subarray(from, from + cut), () => setTimeout(() => request.socket.destroy(), 50))
      return
    }
    response.end(bytes.subarray(from, to))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  hubUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const file of await readdir(`${models}llama`))
    if (file !== 'reference.safetensors') files.set(file, await readFile(`${models}llama/${file}`))
  files.set('pytorch_model.bin', Buffer.alloc(64))
  files.set('README.md', Buffer.from('# tiny'))
  files.set('tokenizer_config.json', Buffer.alloc(0))
})
afterAll(() => {
  server.close()
})
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'weft-hub-'))
  asked = []
  listing = entry
})
afterEach(() => rm(cacheDir, { recursive: true }))

it('downloads what a model needs into the cache that others share, once', async () => {
  const seen: { file: string; bytes: number; of: number }[] = []
  const { network, folder } = await load('org/tiny', { hubUrl, cacheDir, onDownload: (p) => seen.push(p) })
  expect(network.config.architecture).toBe('llama')
  const at = join(cacheDir, 'models--org--tiny')
  expect(folder.name).toBe(join(at, 'snapshots', COMMIT))
  expect((await readdir(folder.name)).sort()).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer_config.json',
  ])
  expect(await readFile(join(at, 'refs', 'main'), 'utf8')).toBe(COMMIT)
  const blob = join(at, 'blobs', sha256(files.get('model.safetensors')!))
  expect(await readFile(blob)).toEqual(files.get('model.safetensors'))
  expect((await lstat(join(folder.name, 'model.safetensors'))).isSymbolicLink()).toBe(true)
  const total = ['config.json', 'generation_config.json', 'model.safetensors'].reduce(
    (n, f) => n + files.get(f)!.length,
    0,
  )
  expect(seen.at(-1)).toMatchObject({ bytes: total, of: total })
  expect(seen.every((p, i) => i === 0 || p.bytes >= seen[i - 1]!.bytes)).toBe(true)

  asked = []
  await openModel('org/tiny@v1', { hubUrl, cacheDir })
  expect(asked.filter((p) => p.includes('/resolve/'))).toEqual([])
  expect(await readFile(join(at, 'refs', 'v1'), 'utf8')).toBe(COMMIT)
})

it('goes on where a download broke off', async () => {
  breakAt = 5000
  await expect(snapshot('org/tiny', { hubUrl, cacheDir })).rejects.toThrow(
    /org\/tiny\/model\.safetensors: the download stopped at \d+ of \d+ bytes.*goes on from there/,
  )
  const blobs = join(cacheDir, 'models--org--tiny', 'blobs')
  const part = `${sha256(files.get('model.safetensors')!)}.incomplete`
  const have = (await readFile(join(blobs, part))).length
  expect(have).toBeGreaterThan(0)
  asked = []
  const folder = await snapshot('org/tiny', { hubUrl, cacheDir })
  const size = files.get('model.safetensors')!.length
  expect(asked).toContain(`/org/tiny/resolve/${COMMIT}/model.safetensors bytes=${have}-${size - 1}`)
  expect(await readFile(join(folder, 'model.safetensors'))).toEqual(files.get('model.safetensors'))
  expect((await readdir(blobs)).filter((f) => f.endsWith('.incomplete'))).toEqual([])
})

it('refuses bytes that are not what the hub lists, and keeps none of them', async () => {
  const wrong = 'ab'.repeat(32)
  listing = (path) => ({ ...entry(path), ...(isLarge(path) && { lfs: { oid: wrong, size: files.get(path)!.length } }) })
  await expect(snapshot('org/tiny', { hubUrl, cacheDir })).rejects.toThrow(/its hash is .* the hub lists abab/)
  const blobs = await readdir(join(cacheDir, 'models--org--tiny', 'blobs'))
  expect(blobs.filter((f) => f.startsWith('abab'))).toEqual([])
})

it('refuses a hash that is a path', async () => {
  listing = (path) => ({ ...entry(path), oid: '../../evil' })
  await expect(snapshot('org/tiny', { hubUrl, cacheDir })).rejects.toThrow(/without a hash/)
})

it('opens what it has when there is no network', async () => {
  const first = await snapshot('org/tiny', { hubUrl, cacheDir })
  const gone = 'http://127.0.0.1:1'
  expect(await snapshot('org/tiny', { hubUrl: gone, cacheDir })).toBe(first)
  expect(await snapshot(`org/tiny@${COMMIT}`, { hubUrl: gone, cacheDir })).toBe(first)
  await expect(snapshot('org/other', { hubUrl: gone, cacheDir })).rejects.toThrow(
    /org\/other: the hub cannot be asked.*network/,
  )
})

it('keeps to the variables that other programs of the hub know', async () => {
  const before = { ...process.env }
  Object.assign(process.env, { HF_HOME: cacheDir, HF_ENDPOINT: hubUrl })
  for (const name of ['HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'HF_TOKEN', 'HF_HUB_OFFLINE']) delete process.env[name]
  try {
    expect(await snapshot('org/tiny')).toBe(join(cacheDir, 'hub', 'models--org--tiny', 'snapshots', COMMIT))
    asked = []
    process.env['HF_HUB_OFFLINE'] = '1'
    await snapshot('org/tiny')
    expect(asked).toEqual([])
  } finally {
    process.env = before
  }
})

it('says what is wrong with a name', async () => {
  await expect(snapshot('org/nothing', { hubUrl, cacheDir })).rejects.toThrow(/no such model or revision/)
  await expect(snapshot('org/secret', { hubUrl, cacheDir })).rejects.toThrow(/private, gated or missing.*HF_TOKEN/)
  await expect(snapshot('org/adapter', { hubUrl, cacheDir })).rejects.toThrow(/an adapter, not a model/)
  await expect(openModel('a/b/c/d', { hubUrl, cacheDir })).rejects.toThrow(/no such folder, and no name on the hub/)
  await writeFile(join(cacheDir, 'x'), '')
  expect(['../x', 'org/..', 'org/x@../../y', 'x', 'org/x@', ' org/x'].map(parseHubName)).toEqual(
    Array(6).fill(undefined),
  )
  expect(parseHubName('org/a.b-c_d@refs/pr/1')).toEqual({ repo: 'org/a.b-c_d', revision: 'refs/pr/1' })
})

it('lists what a model needs and no more', () => {
  const all = ['config.json', 'model.safetensors', 'model-00001-of-00002.safetensors', 'model.safetensors.index.json']
  expect(neededOf([...all, 'tf_model.h5', 'onnx/model.onnx', 'tokenizer.json', 'chat_template.jinja'])).toEqual([
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'chat_template.jinja',
  ])
  expect(neededOf(all.filter((f) => f !== 'model.safetensors'))).toHaveLength(3)
})
