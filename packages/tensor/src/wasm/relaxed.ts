import { isNode } from '../backend.ts'

/**
 * Lets Node 20 take modules with relaxed SIMD, which its engine knows but has behind a flag; later engines need none.
 * Tells whether `bytes`, such a module, is taken now.
 */
export const takesRelaxed = (bytes: Uint8Array<ArrayBuffer>): boolean => {
  if (WebAssembly.validate(bytes)) return true
  if (!isNode() || Number(process.versions.node.split('.')[0]) !== 20) return false
  process.getBuiltinModule('node:v8').setFlagsFromString('--experimental-wasm-relaxed-simd')
  return WebAssembly.validate(bytes)
}
