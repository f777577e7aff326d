import { env } from '@tensorflow/tfjs-core'
import { isNode } from '../backend.ts'
import { cores } from '../cores.ts'
import { memoryOf, type WasmBackend } from './heap.ts'
import { makePool, type Pool } from './pool.ts'
import { canShare, sharing } from './share.ts'

const MODULE = 'tfjs-backend-wasm-simd.wasm'
/** tfjs wants a path for each of its builds */
const BUILDS = ['tfjs-backend-wasm.wasm', MODULE, 'tfjs-backend-wasm-threaded-simd.wasm']

/** Threads for our kernels: WEFT_THREADS, or a thread for each core of this process. */
export const threadCount = (): number => {
  const asked = isNode() ? Number(process.env['WEFT_THREADS']) : 0
  if (asked >= 1) return Math.floor(asked)
  return isNode() ? cores() : (globalThis.navigator?.hardwareConcurrency ?? 1)
}

const read = async (paths: string | Record<string, string> | undefined): Promise<Uint8Array> => {
  const path = typeof paths === 'string' ? `${paths}${MODULE}` : paths?.[MODULE]
  if (isNode() && !/^https?:/.test(path ?? '')) {
    const { createRequire } = process.getBuiltinModule('node:module')
    const file = path ?? createRequire(import.meta.url).resolve(`@tensorflow/tfjs-backend-wasm/dist/${MODULE}`)
    return process.getBuiltinModule('node:fs').readFileSync(file)
  }
  if (!path) throw new Error(`no path of ${MODULE}`)
  const response = await fetch(path)
  if (!response.ok) throw new Error(`${path}: ${response.status}`)
  return new Uint8Array(await response.arrayBuffer())
}

/**
 * tfjs's module with its memory declared as shared, as paths for `setWasmPaths(paths, true)`, where this engine gives
 * out shared memory (Node; a page only when it is cross-origin isolated), has more than one core and SIMD, and the file
 * can be read. Else undefined: the heap stays this thread's own.
 */
export const sharedPaths = async (
  paths?: string | Record<string, string>,
): Promise<Record<string, string> | undefined> => {
  if (threadCount() < 2 || !canShare() || !(await env().getAsync('WASM_HAS_SIMD_SUPPORT'))) return undefined
  try {
    const bytes = sharing(await read(paths))
    if (!WebAssembly.validate(bytes)) return undefined
    const url = URL.createObjectURL(new Blob([bytes], { type: 'application/wasm' }))
    // a page's policy may forbid it: `connect-src` must list blob:
    if (!isNode()) await fetch(url)
    // tfjs would wait for ever where a page's policy or a test's own fetch does not give it back
    const given = await fetch(url)
    if (!given.ok || (await given.arrayBuffer()).byteLength !== bytes.length) return undefined
    return Object.fromEntries(BUILDS.map((name) => [name, url]))
  } catch {
    return undefined
  }
}

const pools = new WeakMap<object, Pool>()

/** The threads of this backend's heap; this thread alone where the heap is not shared. */
export const poolOf = (backend: WasmBackend): Pool => {
  const memory = memoryOf(backend)
  if (!memory) throw new Error('wasm: the backend keeps its memory to itself')
  const pool = pools.get(backend) ?? makePool({ memory, malloc: (bytes) => backend.wasm._malloc(bytes) }, threadCount())
  pools.set(backend, pool)
  return pool
}
