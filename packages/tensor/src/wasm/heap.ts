import type { TensorInfo } from '@tensorflow/tfjs-core'

/** What we use of tfjs's wasm backend beyond its public types. One place, so that an upgrade is checked here. */
export interface WasmBackend {
  readonly wasm: {
    /** fetched anew for each use: the buffer is replaced when the memory grows; addresses stay */
    readonly HEAPU8: Uint8Array
    readonly asm: Readonly<Record<string, unknown>>
    _malloc(bytes: number): number
  }
  readonly dataIdMap: { get(id: TensorInfo['dataId']): { readonly memoryOffset: number } }
  makeOutput(shape: readonly number[], dtype: 'float32'): TensorInfo
}

/** Byte address of a tensor's data on the heap. */
export const address = (backend: WasmBackend, { dataId }: TensorInfo): number =>
  backend.dataIdMap.get(dataId).memoryOffset >>> 0

/** The module's memory; the threaded build (a cross-origin isolated page) keeps it to itself, and other backends have none. */
export const memoryOf = (backend: Partial<WasmBackend>): WebAssembly.Memory | undefined =>
  Object.values(backend.wasm?.asm ?? {}).find((item): item is WebAssembly.Memory => item instanceof WebAssembly.Memory)
