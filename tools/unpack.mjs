import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'

const root = fileURLToPath(new URL('..', import.meta.url))
const home = (() => {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')), '..', '..')
  } catch {
    return undefined
  }
})()

/** True where the binaries that @sparticuz/chromium carries can run. */
export const carried = process.platform === 'linux' && process.arch === 'x64' && home !== undefined

/** Regular files of a ustar archive: 512-byte headers, name at 0, size in octal at 124, type at 156, prefix at 345. */
const entries = function* (/** @type {Buffer} */ tar) {
  const text = (/** @type {number} */ at, /** @type {number} */ length) =>
    tar.toString('utf8', at, at + length).replace(/\0.*$/s, '')
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8)
    const prefix = text(at + 257, 5) === 'ustar' ? text(at + 345, 155) : ''
    const type = text(at + 156, 1)
    if (type === '' || type === '0')
      yield {
        name: prefix ? `${prefix}/${text(at, 100)}` : text(at, 100),
        bytes: tar.subarray(at + 512, at + 512 + size),
      }
    at += 512 + Math.ceil(size / 512) * 512
  }
}

/**
 * Unpacks archives of @sparticuz/chromium (`swiftshader.tar.br`, `chromium.br`, ...) once into node_modules/.cache/weft.
 * Through a temporary name, so that processes that start together do not see half a folder.
 * @param {string} folder name of the folder in the cache
 * @param {readonly string[]} archives
 * @param {(name: string) => boolean} [wanted] which files of the archives
 * @returns {Promise<string>} the folder's path
 */
export const unpack = async (folder, archives, wanted = () => true) => {
  if (home === undefined) throw new Error(`@sparticuz/chromium is not installed; run "npm ci" in ${root}`)
  const { version } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'))
  const target = join(root, 'node_modules', '.cache', 'weft', `${folder}-${version}`)
  if (existsSync(target)) return target
  const partial = `${target}.${randomUUID()}`
  for (const archive of archives) {
    const bytes = await promisify(brotliDecompress)(await readFile(join(home, 'bin', archive)))
    const files = archive.endsWith('.tar.br') ? entries(bytes) : [{ name: archive.replace(/\.br$/, ''), bytes }]
    for (const file of files) {
      if (!wanted(file.name)) continue
      const path = join(partial, file.name)
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, file.bytes)
      await chmod(path, 0o755)
    }
  }
  try {
    await rename(partial, target)
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    if (!existsSync(target)) throw error
  }
  return target
}
