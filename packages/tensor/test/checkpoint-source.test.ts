import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  blobFolder,
  blobSink,
  type Checkpoint,
  CheckpointError,
  encodeFloats,
  fromBlob,
  fromBytes,
  fromOpfs,
  fromUrl,
  openCheckpoint,
  openSafetensors,
  opfsFolder,
  opfsSink,
  sources,
  type TensorBytes,
  toSafetensors,
  urlFolder,
  writeSafetensors,
} from '../src/checkpoint/index.ts'

const floats = (...values: number[]): TensorBytes => ({
  dtype: 'F32',
  shape: [values.length],
  data: encodeFloats('F32', Float32Array.from(values)),
})
const record = {
  a: floats(1, 2),
  b: floats(3),
  big: { dtype: 'U8', shape: [200_000], data: new Uint8Array(200_000).fill(5) },
} as const
const bytes = toSafetensors(record)
/** is the large tensor read as it was written? (toEqual takes a second over so many elements) */
const intact = async (file: Checkpoint): Promise<boolean> =>
  Buffer.from((await file.read('big')).data).equals(Buffer.from(record.big.data))
const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('did not reject'),
    (error) => error,
  )

it('fromBytes reads a Buffer that lies within a larger one as the bytes that it is', async () => {
  const pool = Buffer.from('....abcdefgh....')
  const read = await fromBytes(pool.subarray(4, 12)).read(2, 6)
  // a Buffer's own slice would be a view of the whole pool
  expect(Buffer.from(read.slice().buffer).toString()).toBe('cdef')
})

describe('fromBytes and fromBlob', () => {
  it('read alike, with offsets of their own', async () => {
    const shifted = new Uint8Array(bytes.length + 3)
    shifted.set(bytes, 3)
    for (const source of [
      fromBytes(shifted.subarray(3)),
      fromBlob(new Blob([bytes as BlobPart])),
      fromBytes(bytes.slice().buffer),
    ]) {
      expect(source.size).toBe(bytes.length)
      expect([...(await source.read(8, 12))]).toEqual([...bytes.subarray(8, 12)])
      expect([...(await (await openSafetensors(source)).floats('a'))]).toEqual([1, 2])
    }
  })
  it('refuse ranges outside', async () => {
    for (const source of [fromBytes(bytes, 'x'), fromBlob(new Blob([bytes as BlobPart]), 'x')])
      for (const [start, end] of [
        [-1, 2],
        [4, 2],
        [0, bytes.length + 1],
        [0.5, 2],
        [Number.NaN, 2],
      ] as const)
        await expect(source.read(start, end)).rejects.toThrow(`x: bytes ${start} to ${end} asked of ${bytes.length}`)
  })
  it('a file that is gone since it was picked says so', async () => {
    const gone = {
      size: 9,
      slice: () => ({ arrayBuffer: () => Promise.reject(new Error('NotReadable')) }),
    } as unknown as Blob
    await expect(fromBlob(gone, 'picked').read(0, 4)).rejects.toThrow('picked: cannot be read: NotReadable')
  })
})

type Handler = (request: IncomingMessage, response: ServerResponse, range: [number, number] | undefined) => void

describe('fromUrl', () => {
  let handler: Handler
  let sent = 0
  let requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim())
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
    handler(request, response, match ? [Number(match[1]), Number(match[2])] : undefined)
  })
  let base = ''
  beforeAll(async () => {
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(async () => {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
  })

  const ranges =
    (body: Uint8Array = bytes, headers: Record<string, string> = {}): Handler =>
    (_, response, range) => {
      const [from, to] = range ?? [0, body.length - 1]
      const part = body.subarray(from, to + 1)
      sent += part.length
      response.writeHead(range ? 206 : 200, {
        'content-range': `bytes ${from}-${Math.min(to, body.length - 1)}/${body.length}`,
        'content-length': part.length,
        ...headers,
      })
      response.end(part)
    }
  const start = (next: Handler): void => {
    handler = next
    sent = 0
    requests = []
  }

  it('reads ranges, the header with the first of them', async () => {
    start(ranges())
    const file = await openSafetensors(await fromUrl(`${base}/m`, { first: 1000 }))
    expect(requests).toEqual(['GET /m bytes=0-999'])
    expect([...(await file.floats('a'))]).toEqual([1, 2])
    expect(requests).toHaveLength(1)
    expect(await intact(file)).toBe(true)
    expect(requests).toHaveLength(2)
    expect(sent).toBe(1000 + 200_000)
  })
  it('a first request longer than the file is cut to it', async () => {
    start(ranges(bytes.subarray(0, 100)))
    const source = await fromUrl(`${base}/m`)
    expect(source.size).toBe(100)
    expect(await source.read(90, 100)).toEqual(bytes.slice(90, 100))
  })
  it('sends headers', async () => {
    let token: string | undefined
    start((request, response, range) => {
      token = request.headers.authorization
      ranges()(request, response, range)
    })
    await fromUrl(`${base}/m`, { headers: { authorization: 'Bearer x' } })
    expect(token).toBe('Bearer x')
  })
  it('takes the whole file from a server without ranges, or refuses', async () => {
    const whole: Handler = (_, response) => response.end(bytes)
    start(whole)
    const file = await openSafetensors(await fromUrl(`${base}/m`))
    expect([...(await file.floats('b'))]).toEqual([3])
    expect(await intact(file)).toBe(true)
    expect(requests).toHaveLength(1)
    await expect(fromUrl(`${base}/m`, { whole: false })).rejects.toThrow('the server ignores ranges')
  })
  it('an empty file is empty', async () => {
    start((_, response) => response.writeHead(416, { 'content-range': 'bytes */0' }).end())
    expect((await fromUrl(`${base}/m`)).size).toBe(0)
  })
  it('asks for the size where the server hides the range', async () => {
    start((request, response, range) => {
      if (request.method === 'HEAD') response.writeHead(200, { 'content-length': bytes.length }).end()
      else response.writeHead(206).end(bytes.subarray(range![0], range![1] + 1))
    })
    const file = await openSafetensors(await fromUrl(`${base}/m`, { first: 1000 }))
    expect(await intact(file)).toBe(true)
    expect(requests.map((r) => r.split(' ')[0])).toEqual(['GET', 'HEAD', 'GET'])
    start((_, response, range) => {
      if (range) response.writeHead(206).end(bytes.subarray(range[0], range[1] + 1))
      else response.writeHead(200, { 'transfer-encoding': 'chunked' }).end()
    })
    await expect(fromUrl(`${base}/m`)).rejects.toThrow('the server hides how long the file is')
  })
  it('a refusal names status and remedy', async () => {
    for (const [status, remedy] of [
      [404, 'the server answered 404 Not Found; check the address'],
      [401, 'pass an access token in `headers`'],
    ] as const) {
      start((_, response) => response.writeHead(status).end('no'))
      const error = await rejection(fromUrl(`${base}/m`))
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toContain(`${base}/m: `)
      expect(error.message).toContain(remedy)
      expect(requests).toHaveLength(1)
    }
  })
  it('tries again when the server is busy, and gives up in the end', async () => {
    let failures = 1
    start((request, response, range) => {
      if (failures-- > 0) response.writeHead(503).end()
      else ranges()(request, response, range)
    })
    expect((await fromUrl(`${base}/m`)).size).toBe(bytes.length)
    start((_, response) => response.writeHead(503).end())
    await expect(fromUrl(`${base}/m`, { retries: 1 })).rejects.toThrow('503')
    expect(requests).toHaveLength(2)
    await expect(fromUrl('http://127.0.0.1:1/m', { retries: 0 })).rejects.toThrow('no answer')
  })
  it('stops when it is told to, with the reason of the signal', async () => {
    start(ranges())
    const control = new AbortController()
    const file = await openSafetensors(await fromUrl(`${base}/m`, { first: 1000, signal: control.signal }))
    control.abort()
    expect((await rejection(file.read('big'))).name).toBe('AbortError')
    expect((await rejection(fromUrl(`${base}/m`, { signal: control.signal }))).name).toBe('AbortError')
  })
  it('a truncated or longer answer is an error', async () => {
    const after = (change: (part: Uint8Array) => Uint8Array): Handler => {
      let first = true
      return (request, response, range) => {
        if (first) ranges()(request, response, range)
        else {
          const [from, to] = range!
          response.writeHead(206, { 'content-range': `bytes ${from}-${to}/${bytes.length}` })
          response.end(change(bytes.subarray(from, to + 1)))
        }
        first = false
      }
    }
    start(after((part) => part.subarray(1)))
    let file = await openSafetensors(await fromUrl(`${base}/m`, { first: 1000 }))
    await expect(file.read('big')).rejects.toThrow('the server sent 199999 of the 200000 bytes it announced')
    start(after(() => new Uint8Array(5_000_000)))
    file = await openSafetensors(await fromUrl(`${base}/m`, { first: 1000 }))
    await expect(file.read('big')).rejects.toThrow('the server sent more than the 200000 bytes it announced')
    start((_, response) => {
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(bytes.subarray(0, 1000), () => response.destroy())
    })
    await expect(fromUrl(`${base}/m`)).rejects.toThrow(/broke off after \d+ bytes/)
  })
  it.each<[string, Handler, string]>([
    ['forgets ranges', (_, response) => response.end(bytes), 'stopped serving ranges'],
    ['has another size', ranges(bytes.subarray(0, 5000)), 'the file changed on the server'],
    ['has another tag', ranges(bytes, { etag: '"2"' }), 'the file changed on the server'],
    [
      'sends another part',
      (_, response) =>
        response.writeHead(206, { 'content-range': `bytes 0-9/${bytes.length}` }).end(bytes.subarray(0, 10)),
      'the server sent bytes 0 to 10',
    ],
    ['refuses', (_, response) => response.writeHead(403).end(), 'the server answered 403'],
  ])('a server that %s later on is an error', async (_, later, message) => {
    let first = true
    start((request, response, range) => {
      if (first) ranges(bytes, { etag: '"1"' })(request, response, range)
      else later(request, response, range)
      first = false
    })
    const file = await openSafetensors(await fromUrl(`${base}/m`, { first: 1000 }))
    await expect(file.read('big')).rejects.toThrow(message)
  })
  it('urlFolder opens a checkpoint and keeps the query', async () => {
    const served = new Map([['/org/m%20x/model.safetensors?rev=1', bytes]])
    start((request, response, range) => {
      const body = served.get(request.url ?? '')
      if (!body) response.writeHead(404).end()
      else if (request.method === 'HEAD') response.writeHead(405).end()
      else ranges(body)(request, response, range)
    })
    const file = await openCheckpoint(urlFolder(`${base}/org/m%20x/?rev=1`))
    expect([...(await file.floats('a'))]).toEqual([1, 2])
    await expect(openCheckpoint(urlFolder(`${base}/other`))).rejects.toThrow('neither model.safetensors nor')
  })
  it('urlFolder takes a page for nothing, and names cannot leave it', async () => {
    start((_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'))
    const folder = urlFolder(base)
    expect(await folder.has('model.safetensors')).toBe(false)
    await expect(folder.open('../secret')).rejects.toThrow('leaves the folder')
    await expect(folder.has('a/../../b')).rejects.toThrow('leaves the folder')
    start((_, response) => response.end('{"a":"é"}'))
    expect(await folder.text('config.json')).toBe('{"a":"é"}')
  })
})

describe('blobFolder', () => {
  const picked = (path: string): File => {
    const file = new File([bytes as BlobPart], path.split('/').at(-1)!)
    Object.defineProperty(file, 'webkitRelativePath', { value: path })
    return file
  }
  it('takes a Map, or picked files without their common folder', async () => {
    for (const folder of [
      blobFolder(new Map([['model.safetensors', new Blob([bytes as BlobPart])]])),
      blobFolder([picked('tiny/config.json'), picked('tiny/model.safetensors')]),
      blobFolder([new File([bytes as BlobPart], 'model.safetensors')]),
    ])
      expect([...(await (await openCheckpoint(folder)).floats('b'))]).toEqual([3])
    expect(() => blobFolder([picked('x/a'), picked('y/a')])).toThrow('"a" was picked twice')
    await expect(blobFolder([picked('tiny/config.json')]).open('b')).rejects.toThrow(
      'no file "b"; there are config.json',
    )
  })
})

/** the part of the origin private file system that is used; `writable` as in Chromium and Firefox, else as in Safari's workers */
const fakeOpfs = (files: Map<string, Uint8Array>, { writable }: { writable: boolean }): FileSystemDirectoryHandle => {
  const missing = (): never => {
    throw Object.assign(new Error('missing'), { name: 'NotFoundError' })
  }
  const fileHandle = (name: string) => {
    let at = name
    return {
      kind: 'file',
      name,
      getFile: async () => new File([files.get(at)! as BlobPart], at),
      ...(writable
        ? {
            createWritable: async () => {
              let whole = Buffer.alloc(0)
              return {
                write: async ({ position, data }: { position: number; data: Uint8Array }) => {
                  const grown = Buffer.alloc(Math.max(whole.length, position + data.length))
                  grown.set(whole)
                  grown.set(data, position)
                  whole = grown
                },
                close: async () => void files.set(at, whole),
                abort: async () => undefined,
              }
            },
          }
        : {
            createSyncAccessHandle: async () => ({
              write: (chunk: Uint8Array, { at: offset }: { at: number }) => {
                const n = Math.min(chunk.length, 100_000) // short writes
                const old = files.get(at)!
                const grown = new Uint8Array(Math.max(old.length, offset + n))
                grown.set(old)
                grown.set(chunk.subarray(0, n), offset)
                files.set(at, grown)
                return n
              },
              flush: () => undefined,
              close: () => undefined,
            }),
            move: async (to: string) => {
              files.set(to, files.get(at)!)
              files.delete(at)
              at = to
            },
          }),
    }
  }
  return {
    kind: 'directory',
    name: 'opfs',
    getFileHandle: async (name: string, { create = false } = {}) => {
      if (!files.has(name)) {
        if (!create) missing()
        files.set(name, new Uint8Array())
      }
      return fileHandle(name)
    },
    getDirectoryHandle: async () => missing(),
    removeEntry: async (name: string) => void files.delete(name),
    entries: async function* () {
      for (const name of files.keys()) yield [name, fileHandle(name)]
    },
  } as unknown as FileSystemDirectoryHandle
}

describe.each([true, false])('OPFS, createWritable: %s', (writable) => {
  it('writes and reads', async () => {
    const files = new Map<string, Uint8Array>()
    const directory = fakeOpfs(files, { writable })
    await writeSafetensors(await opfsSink(directory, 'model.safetensors'), sources(record))
    expect([...files.keys()]).toEqual(['model.safetensors'])
    expect(Buffer.from(files.get('model.safetensors')!).equals(bytes)).toBe(true)
    const file = await openCheckpoint(opfsFolder(directory))
    expect([...(await file.floats('a'))]).toEqual([1, 2])
    const handle = await directory.getFileHandle('model.safetensors')
    expect((await fromOpfs(handle)).size).toBe(bytes.length)
    await expect(openCheckpoint(opfsFolder(directory), { stem: 'other' })).rejects.toThrow('pass stem "model"')
    await expect(opfsFolder(directory).open('sub/x')).rejects.toThrow('no file "sub/x"; there are model.safetensors')
  })
  it.each([true, false])('a failure leaves what was there, old file: %s', async (old) => {
    const files = new Map<string, Uint8Array>(old ? [['m', Uint8Array.of(1, 2)]] : [])
    const before = new Map(files)
    const broken = {
      name: 'x',
      dtype: 'U8',
      shape: [3],
      data: () => Promise.reject(new Error('out of memory')),
    } as const
    const sink = await opfsSink(fakeOpfs(files, { writable }), 'm')
    await expect(writeSafetensors(sink, [broken])).rejects.toThrow('out of memory')
    expect(files).toEqual(before)
  })
})

describe('blobSink', () => {
  it('gives the same file, once it is closed', async () => {
    const sink = blobSink()
    expect(() => sink.blob()).toThrow('only after close()')
    await writeSafetensors(sink, sources(record))
    expect(Buffer.from(await sink.blob().arrayBuffer()).equals(bytes)).toBe(true)
    expect(sink.blob().type).toBe('application/octet-stream')
  })
})
