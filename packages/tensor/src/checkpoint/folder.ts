import { CheckpointError, quote, reading } from './error.ts'
import { type ByteSource, fromBlob, fromOpfs } from './source.ts'
import { fromUrl, type UrlOptions } from './url.ts'

/** Files by name, relative to one place, `/` between folders. */
export interface Folder {
  readonly name: string
  /** @throws CheckpointError when there is no such file */
  open(file: string): Promise<ByteSource>
  has(file: string): Promise<boolean>
  /** a whole file as UTF-8 */
  text(file: string): Promise<string>
  list?(): Promise<readonly string[]>
}

/** the parts of a name that stays within its folder @throws CheckpointError for one that does not */
export const safeParts = (file: string, folder: string): string[] => {
  const parts = file.split('/')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  const bad = /[\\:\u0000-\u001f]/.test(file) || parts.some((part) => part === '' || part === '.' || part === '..')
  if (bad)
    throw new CheckpointError(`the file name ${quote(file)} leaves the folder; use plain names within it`, {
      file: folder,
    })
  return parts
}

/** reads a whole source as text, and closes it */
export const readText = async (source: ByteSource): Promise<string> => {
  try {
    const bytes = await source.read(0, source.size)
    return await reading(
      { file: source.name },
      () => new TextDecoder('utf-8', { fatal: true }).decode(bytes),
      'save the file as UTF-8',
    )
  } finally {
    await source.close?.()
  }
}

/** A folder on a server: `https://host/org/model/resolve/main`. */
export const urlFolder = (base: string | URL, options: UrlOptions = {}): Folder => {
  const [path = '', query] = String(base).split('?')
  const name = path.replace(/\/+$/, '')
  const address = (file: string): string =>
    `${name}/${safeParts(file, name).map(encodeURIComponent).join('/')}${query === undefined ? '' : `?${query}`}`
  const get = options.fetch ?? fetch
  const open = async (file: string): Promise<ByteSource> => fromUrl(address(file), options)
  return {
    name,
    open,
    has: async (file) => {
      const url = address(file)
      const { headers = {}, signal } = options
      const ask = (method: string, more: Readonly<Record<string, string>> = {}): Promise<Response> =>
        reading(
          { file: url },
          () => get(url, { method, headers: { ...headers, ...more }, ...(signal ? { signal } : {}) }),
          'check the address, the network and, in a browser, that the server allows this page (CORS)',
        )
      let response = await ask('HEAD')
      if (response.status === 405 || response.status === 501) {
        response = await ask('GET', { range: 'bytes=0-0' })
        await response.body?.cancel()
      }
      // servers of one-page apps answer every unknown address with their page
      if (response.ok) return !response.headers.get('content-type')?.startsWith('text/html')
      if (response.status === 404 || response.status === 410) return false
      const remedy =
        response.status === 401 || response.status === 403 ? 'pass an access token in `headers`' : 'try again later'
      throw new CheckpointError(`the server answered ${response.status} ${response.statusText}; ${remedy}`, {
        file: url,
      })
    },
    text: async (file) => readText(await open(file)),
  }
}

/** Picked or dropped files: a Map by name, or Files, of which the common folder (webkitRelativePath) is left out. */
export const blobFolder = (files: ReadonlyMap<string, Blob> | Iterable<File>, name = 'the picked folder'): Folder => {
  const blobs = new Map<string, Blob>()
  if (files instanceof Map) for (const [file, blob] of files) blobs.set(file, blob)
  else
    for (const file of files as Iterable<File>) {
      const path = file.webkitRelativePath ? file.webkitRelativePath.split('/').slice(1).join('/') : file.name
      if (blobs.has(path)) throw new CheckpointError(`${quote(path)} was picked twice; pick one folder`, { file: name })
      blobs.set(path, file)
    }
  const open = async (file: string): Promise<ByteSource> => {
    const blob = blobs.get(file)
    if (!blob) throw absent(name, file, [...blobs.keys()])
    return fromBlob(blob, `${name}/${file}`)
  }
  return {
    name,
    open,
    has: async (file) => blobs.has(file),
    text: async (file) => readText(await open(file)),
    list: async () => [...blobs.keys()],
  }
}

/** the error for a file that is not there */
export const absent = (folder: string, file: string, found: readonly string[] = []): CheckpointError =>
  new CheckpointError(
    `no file ${quote(file)}${found.length > 0 ? `; there are ${found.slice(0, 8).join(', ')}${found.length > 8 ? ', …' : ''}` : '; check the folder'}`,
    { file: folder },
  )

const isMissing = (error: unknown): boolean =>
  error instanceof Error && (error.name === 'NotFoundError' || error.name === 'TypeMismatchError')

/** A directory of the origin private file system, or one that the user has opened (showDirectoryPicker). */
export const opfsFolder = (directory: FileSystemDirectoryHandle): Folder => {
  const name = directory.name || 'opfs'
  const find = async (file: string): Promise<FileSystemFileHandle | undefined> => {
    const parts = safeParts(file, name)
    try {
      let at = directory
      for (const part of parts.slice(0, -1)) at = await at.getDirectoryHandle(part)
      return await at.getFileHandle(parts.at(-1)!)
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }
  const list = async (): Promise<string[]> => {
    const names: string[] = []
    for await (const [file, handle] of directory.entries()) if (handle.kind === 'file') names.push(file)
    return names.sort()
  }
  const open = async (file: string): Promise<ByteSource> => {
    const handle = await reading({ file: `${name}/${file}` }, () => find(file), 'allow access to the folder again')
    if (!handle) throw absent(name, file, await list())
    return fromOpfs(handle)
  }
  return {
    name,
    open,
    has: async (file) => (await find(file)) !== undefined,
    text: async (file) => readText(await open(file)),
    list,
  }
}
