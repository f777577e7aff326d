import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { CheckpointError } from '@weftjs/tensor/checkpoint'

export interface HubOptions {
  /** default https://huggingface.co, or HF_ENDPOINT */
  readonly hubUrl?: string
  /** default HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub: what other programs of the hub use too */
  readonly cacheDir?: string
  /** for gated and private models; default HF_TOKEN, or what `hf auth login` has stored */
  readonly accessToken?: string
  /** bytes of all files that are needed, those in the cache included */
  readonly onDownload?: (done: { file: string; bytes: number; of: number }) => void
  readonly fetch?: typeof fetch
}

const COMPANIONS =
  /^((generation_|tokenizer_|preprocessor_)?config\.json|tokenizer\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|chat_template\.(jinja|json))$/
const CHECKPOINT = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/

/** of a repository's files, those that a model needs to run: config, tokenizer, chat template, safetensors */
export const neededOf = (paths: readonly string[]): string[] => {
  const whole = paths.includes('model.safetensors')
  return paths.filter((p) => COMPANIONS.test(p) || (whole ? p === 'model.safetensors' : CHECKPOINT.test(p)))
}

const home = (): string => {
  const { HF_HOME, XDG_CACHE_HOME } = process.env
  return HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface')
}
const cachePath = (): string =>
  process.env['HF_HUB_CACHE'] ?? process.env['HUGGINGFACE_HUB_CACHE'] ?? join(home(), 'hub')
const storedToken = async (): Promise<string | undefined> =>
  process.env['HF_TOKEN'] ||
  (await readFile(process.env['HF_TOKEN_PATH'] ?? join(home(), 'token'), 'utf8').catch(() => '')).trim() ||
  undefined

const sizeOf = (path: string): Promise<number | undefined> =>
  stat(path).then(
    (s) => s.size,
    () => undefined,
  )

/** `org/name` or `org/name@revision`; undefined for what is no such name */
export const parseHubName = (where: string): { repo: string; revision: string } | undefined => {
  const found = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w][\w./-]*))?$/.exec(where)
  if (!found || found[2]?.includes('..')) return undefined
  return { repo: found[1]!, revision: found[2] ?? 'main' }
}

/**
 * The files of a model on the hub, in the cache that all programs of the hub share; what is there is not fetched again,
 * what was broken off goes on where it stopped, and every file is checked against its hash.
 * Without a network, a model that the cache has is opened from it.
 * @returns the folder @throws CheckpointError that names the model and the remedy
 */
export const snapshot = async (where: string, options: HubOptions = {}): Promise<string> => {
  const named = parseHubName(where)
  if (!named) throw new CheckpointError('not a name of the form org/name@revision', { file: where })
  const { repo, revision } = named
  const hub = await import('@huggingface/hub')
  const storage = join(options.cacheDir ?? cachePath(), `models--${repo.replace('/', '--')}`)
  const accessToken = options.accessToken ?? (await storedToken())
  const hubUrl = (options.hubUrl ?? process.env['HF_ENDPOINT'])?.replace(/\/+$/, '')
  const common = {
    ...(hubUrl && { hubUrl }),
    ...(options.fetch && { fetch: options.fetch }),
    ...(accessToken && { accessToken }),
  }
  const offline = ['1', 'true', 'yes', 'on'].includes((process.env['HF_HUB_OFFLINE'] ?? '').toLowerCase())

  let files: { path: string; size: number; etag: string; sha256: boolean }[]
  let commit: string
  try {
    if (offline) throw new TypeError('HF_HUB_OFFLINE is set')
    commit = (await hub.modelInfo({ ...common, name: repo, revision, additionalFields: ['sha'] })).sha
    const listed: typeof files = []
    for await (const f of hub.listFiles({ ...common, repo, revision: commit }))
      if (f.type === 'file')
        listed.push({ path: f.path, size: f.size, etag: f.lfs?.oid ?? f.oid ?? '', sha256: f.lfs !== undefined })
    const needed = neededOf(listed.map((f) => f.path))
    refuse(
      where,
      listed.map((f) => f.path),
      needed,
    )
    files = listed.filter((f) => needed.includes(f.path))
  } catch (error) {
    const kept = await cached(storage, revision)
    if (kept && !('statusCode' in (error as object)) && !(error instanceof CheckpointError)) return kept
    throw explained(where, error)
  }
  if (!/^[0-9a-f]{7,64}$/.test(commit))
    throw new CheckpointError(`the hub answered with no commit; check the address ${hubUrl ?? ''}`, { file: where })

  const folder = join(storage, 'snapshots', commit)
  const of = files.reduce((n, f) => n + f.size, 0)
  let before = 0
  for (const file of files) {
    const tell = (bytes: number): void => options.onDownload?.({ file: file.path, bytes: before + bytes, of })
    const target = join(folder, file.path)
    if ((await sizeOf(target)) !== file.size) {
      // an etag becomes a file name
      if (!/^[0-9a-f]{40,64}$/.test(file.etag))
        throw new CheckpointError('the hub lists it without a hash; try again later', { file: `${where}/${file.path}` })
      const blob = join(storage, 'blobs', file.etag)
      await mkdir(dirname(blob), { recursive: true })
      if ((await sizeOf(blob)) !== file.size) {
        const open = (): Promise<Blob | null> =>
          hub.downloadFile({ ...common, repo, path: file.path, revision: commit }) as Promise<Blob | null>
        await fetchTo(`${where}/${file.path}`, open, blob, file, tell)
      }
      await link(blob, target)
    }
    tell(file.size)
    before += file.size
  }
  if (revision !== commit) {
    const ref = join(storage, 'refs', revision)
    await mkdir(dirname(ref), { recursive: true })
    await writeFile(ref, commit)
  }
  return folder
}

const refuse = (file: string, all: readonly string[], needed: readonly string[]): void => {
  if (!needed.includes('config.json'))
    throw new CheckpointError(
      all.includes('adapter_config.json')
        ? 'an adapter, not a model; load the model that its adapter_config.json names, and the adapter on it'
        : 'has no config.json, so it is no transformers model; choose another',
      { file },
    )
  if (needed.some((p) => CHECKPOINT.test(p))) return
  const pickle = all.find((p) => /\.(bin|pt|pth|ckpt)$/.test(p))
  throw new CheckpointError(
    `has no model.safetensors${pickle ? `, only ${pickle}` : ''}; choose a revision that has one, or convert it`,
    { file },
  )
}

/** a snapshot that an earlier download has completed */
const cached = async (storage: string, revision: string): Promise<string | undefined> => {
  const commit = await readFile(join(storage, 'refs', revision), 'utf8').catch(() => revision)
  const folder = join(storage, 'snapshots', commit.trim())
  return (await sizeOf(join(folder, 'config.json'))) === undefined ? undefined : folder
}

const explained = (file: string, error: unknown): Error => {
  if (error instanceof CheckpointError) return error
  const status = (error as { statusCode?: number }).statusCode
  const remedy =
    status === 401 || status === 403
      ? 'it is private, gated or missing: check the name, accept its conditions on the hub and set HF_TOKEN'
      : status === 404
        ? 'no such model or revision; check the name'
        : 'check the network; a model that has been downloaded before opens without one'
  return new CheckpointError(`the hub cannot be asked (${reasonOf(error)}); ${remedy}`, { file }, { cause: error })
}
const reasonOf = (error: unknown): string => {
  const { message, cause } = error as Error
  const below = (cause as { code?: string; message?: string } | undefined)?.code
  return below ? `${message}: ${below}` : (message ?? String(error))
}

/** downloads behind what an earlier try has left, checks, and gives the file its name */
const fetchTo = async (
  file: string,
  open: () => Promise<Blob | null>,
  target: string,
  { size, etag, sha256 }: { size: number; etag: string; sha256: boolean },
  tell: (bytes: number) => void,
): Promise<void> => {
  const part = `${target}.incomplete`
  let done = (await sizeOf(part)) ?? 0
  if (done > size) {
    await rm(part)
    done = 0
  }
  try {
    const blob = size === done ? undefined : await open()
    if (blob === null) throw new Error('the hub no longer has it')
    if (blob && blob.size !== size) throw new Error(`the hub lists ${size} bytes and offers ${blob.size}`)
    const count = new Transform({
      transform: (chunk: Uint8Array, _, next) => {
        done += chunk.byteLength
        tell(done)
        next(null, chunk)
      },
    })
    const body = blob ? Readable.fromWeb(blob.slice(done, size).stream() as ReadableStream) : Readable.from([])
    await pipeline(body, count, createWriteStream(part, { flags: 'a' }))
  } catch (error) {
    const have = (await sizeOf(part)) ?? 0
    throw new CheckpointError(
      `the download stopped at ${have} of ${size} bytes (${reasonOf(error)}); try again, and it goes on from there`,
      { file },
      { cause: error },
    )
  }
  const have = (await sizeOf(part)) ?? 0
  if (have < size)
    throw new CheckpointError(`${have} of ${size} bytes came; try again, and it goes on from there`, { file })
  // LFS files are named by the hash of their bytes, small ones as git names them
  const hash = createHash(sha256 ? 'sha256' : 'sha1')
  if (!sha256) hash.update(`blob ${size}\0`)
  for await (const chunk of createReadStream(part)) hash.update(chunk as Uint8Array)
  const found = hash.digest('hex')
  if (found !== etag) {
    await rm(part)
    throw new CheckpointError(`its hash is ${found}, and the hub lists ${etag}; try again`, { file })
  }
  await rename(part, target)
}

/** the snapshot's file is a link to the blob; a copy where links are not allowed */
const link = async (blob: string, target: string): Promise<void> => {
  await mkdir(dirname(target), { recursive: true })
  await rm(target, { force: true })
  await symlink(relative(dirname(target), blob), target).catch(() => copyFile(blob, target))
}
