import { CheckpointError, isAbort, reason } from './error.ts'
import { type ByteSource, checkRange, fromBytes } from './source.ts'

export interface UrlOptions {
  readonly fetch?: typeof fetch
  /** sent with every request: `{ authorization: 'Bearer …' }` */
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  /** tries after a first one that a busy server or a lost connection spoiled */
  readonly retries?: number
  /** bytes of the first request, which most headers fit in */
  readonly first?: number
  /** may a server without ranges send the whole file into memory? */
  readonly whole?: boolean
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

/** tries again what failed on the way, not what the server refused */
const ask = async (url: string, range: string | undefined, o: UrlOptions): Promise<Response> => {
  const { fetch: get = fetch, headers = {}, signal, retries = 2 } = o
  for (let attempt = 0; ; attempt++) {
    const last = attempt >= retries
    try {
      const response = await get(url, {
        // a compressed answer would count other bytes; browsers set this themselves
        headers: { ...headers, 'accept-encoding': 'identity', ...(range === undefined ? {} : { range }) },
        ...(signal ? { signal } : {}),
      })
      if (last || (response.status < 500 && response.status !== 429)) return response
      await response.body?.cancel()
    } catch (error) {
      if (signal?.aborted) throw signal.reason
      if (last)
        throw new CheckpointError(
          `no answer: ${reason(error)}; check the address, the network and, in a browser, that the server allows this page (CORS)`,
          { file: url },
          { cause: error },
        )
    }
    await sleep(200 * 2 ** attempt)
  }
}

const REMEDIES: Readonly<Record<number, string>> = {
  401: 'pass an access token in `headers`',
  403: 'pass an access token in `headers`, or accept the terms of this model',
  404: 'check the address',
}
const refused = (url: string, { status, statusText }: Response): CheckpointError =>
  new CheckpointError(`the server answered ${status} ${statusText}; ${REMEDIES[status] ?? 'try again later'}`, {
    file: url,
  })

/** exactly `want` bytes of a body; stops the transfer as soon as there are more */
const body = async (url: string, response: Response, want: number | undefined): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = []
  let got = 0
  try {
    for await (const chunk of response.body ?? []) {
      chunks.push(chunk)
      got += chunk.byteLength
      if (want !== undefined && got > want) break
    }
  } catch (error) {
    if (isAbort(error)) throw error
    throw new CheckpointError(`the transfer broke off after ${got} bytes: ${reason(error)}; try again`, { file: url })
  }
  if (want !== undefined && got !== want) {
    const what = got > want ? 'more than the' : `${got} of the`
    throw new CheckpointError(`the server sent ${what} ${want} bytes it announced; try again or download the file`, {
      file: url,
    })
  }
  if (chunks.length === 1) return chunks[0]!
  const all = new Uint8Array(got)
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.byteLength
  }
  return all
}

const lengthOf = (response: Response): number | undefined => {
  const length = response.headers.get('content-length')
  return length === null || response.headers.has('content-encoding') ? undefined : Number(length)
}

/** `bytes 0-99/1234`, or undefined where the header is hidden (CORS) or of another form */
const contentRange = (response: Response): { start: number; end: number; size: number } | undefined => {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get('content-range') ?? '')
  return match ? { start: Number(match[1]), end: Number(match[2]) + 1, size: Number(match[3]) } : undefined
}

/** size of a file whose content-range the server does not show */
const sizeByHead = async (url: string, o: UrlOptions): Promise<number> => {
  const get = o.fetch ?? fetch
  const response = await ask(url, undefined, { ...o, fetch: (u, init) => get(u, { ...init, method: 'HEAD' }) })
  const size = response.ok ? lengthOf(response) : undefined
  if (size === undefined || !Number.isSafeInteger(size))
    throw new CheckpointError(
      'the server hides how long the file is; let it expose the header content-range (access-control-expose-headers), or download the file',
      { file: url },
    )
  return size
}

/**
 * A file on a server, read by HTTP ranges. A server that answers the first range with the whole file (200) is taken at
 * its word and the file kept in memory, unless `whole` is false.
 * @throws CheckpointError when the server refuses, truncates, forgets ranges later on, or the file changes in between
 */
export const fromUrl = async (url: string | URL, options: UrlOptions = {}): Promise<ByteSource> => {
  const { first = 65_536, whole = true } = options
  const name = String(url)
  const response = await ask(name, `bytes=0-${first - 1}`, options)
  if (response.status === 416 && /\/0$/.test(response.headers.get('content-range') ?? '')) {
    await response.body?.cancel()
    return fromBytes(new Uint8Array(), name)
  }
  if (response.status === 200) {
    if (whole) return fromBytes(await body(name, response, lengthOf(response)), name)
    await response.body?.cancel()
    throw new CheckpointError('the server ignores ranges; allow `whole`, or download the file', { file: name })
  }
  if (response.status !== 206) {
    await response.body?.cancel()
    throw refused(name, response)
  }
  const told = contentRange(response)
  let size: number
  try {
    size = told?.size ?? (await sizeByHead(name, options))
  } catch (error) {
    await response.body?.cancel()
    throw error
  }
  const head = await body(name, response, Math.min(first, size))
  const etag = response.headers.get('etag')
  const source = { size, name }

  const read = async (start: number, end: number): Promise<Uint8Array> => {
    checkRange(start, end, source)
    if (end <= head.byteLength) return head.subarray(start, end)
    if (start === end) return new Uint8Array()
    const part = await ask(name, `bytes=${start}-${end - 1}`, options)
    const range = contentRange(part)
    const problem =
      part.status === 200
        ? 'the server stopped serving ranges; download the file'
        : (range && range.size !== size) || (etag && part.headers.get('etag') && part.headers.get('etag') !== etag)
          ? 'the file changed on the server while it was read; open it again'
          : range && (range.start !== start || range.end !== end)
            ? `the server sent bytes ${range.start} to ${range.end} for ${start} to ${end}; download the file`
            : undefined
    if (problem === undefined && part.status === 206) return body(name, part, end - start)
    await part.body?.cancel()
    throw problem === undefined ? refused(name, part) : new CheckpointError(problem, { file: name })
  }
  return { ...source, read }
}
