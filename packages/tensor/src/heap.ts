/** For kernels of one's own on the heap of the wasm backend: modules compiled from AssemblyScript, tensors as addresses. */
import { backend, engine, type Tensor, type TensorInfo } from '@tensorflow/tfjs-core'
import { address, memoryOf, type WasmBackend } from './wasm/heap.ts'
import type { Threaded } from './wasm/pool.ts'
import { poolOf } from './wasm/threads.ts'

/** base64 of a module that imports its memory as `env.memory` and brings no data; `relaxed` uses relaxed SIMD, where that differs */
export interface HeapModule {
  readonly simd: string
  readonly relaxed?: string
}
/** A routine takes addresses in bytes, whole numbers and floats. */
export type Routines = Readonly<Record<string, (...values: number[]) => number>>

const bytesOf = (base64: string): Uint8Array<ArrayBuffer> => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))

const instances = new WeakMap<object, Map<HeapModule, Threaded | undefined>>()

const instantiate = (module: HeapModule, current: WasmBackend): Threaded | undefined => {
  const bytes = [module.relaxed, module.simd]
    .flatMap((text) => (text ? [bytesOf(text)] : []))
    .find((b) => WebAssembly.validate(b))
  return memoryOf(current) && bytes && poolOf(current).load(bytes)
}

const loaded = (module: HeapModule): Threaded | undefined => {
  const current = backend() as unknown as WasmBackend
  const known = instances.get(current) ?? new Map<HeapModule, Threaded | undefined>()
  instances.set(current, known)
  if (!known.has(module)) known.set(module, instantiate(module, current))
  return known.get(module)
}

/** The module's routines on the current wasm backend's heap; undefined where it has no SIMD or keeps its memory to itself, and on other backends. */
export const routines = (module: HeapModule): Routines | undefined => loaded(module)?.routines as Routines | undefined

/** How many threads may work on the heap, this one included: 1 where it is not shared. */
export const threads = (): number => {
  const current = backend() as unknown as WasmBackend
  return memoryOf(current) ? poolOf(current).threads : 1
}

/**
 * Calls a routine of the module once for each list of arguments, in any order and in several threads where the heap is
 * shared; it is told the thread's number, below `threads()`, as one argument more, for scratch of its own. Some tens of
 * microseconds pass until a thread that sleeps has woken: a call should take as long. At most 15 arguments.
 */
export const inThreads = (module: HeapModule, routine: string, calls: readonly (readonly number[])[]): void =>
  loaded(module)!.each(routine, calls)

/** Calls a routine for n things in as many parts as there are threads, none smaller than `least`; `f` gives a part's arguments. */
export const inParts = (
  module: HeapModule,
  routine: string,
  { n, least }: { n: number; least: number },
  f: (from: number, count: number) => readonly number[],
): void => {
  const parts = Math.max(1, Math.min(n >= 2 * least ? threads() : 1, Math.floor(n / least)))
  const calls: (readonly number[])[] = []
  for (let i = 0, from = 0; i < parts; i++) {
    const to = Math.floor((n * (i + 1)) / parts)
    calls.push(f(from, to - from))
    from = to
  }
  inThreads(module, routine, calls)
}

/** Byte address of a tensor on the heap. It stays; views of the heap do not: the next tensor made may replace them. */
export const addressOf = (t: TensorInfo): number => address(backend() as unknown as WasmBackend, t)

/** A tensor of float32 whose values are to be written. Make all outputs before the first address is taken. */
export const output = (shape: readonly number[]): Tensor =>
  engine().makeTensorFromTensorInfo((backend() as unknown as WasmBackend).makeOutput(shape, 'float32'))

/** A view of the heap, good until the next tensor is made. */
export const heapBytes = (at: number, bytes: number): Uint8Array<ArrayBuffer> =>
  (backend() as unknown as WasmBackend).wasm.HEAPU8.subarray(at, at + bytes) as Uint8Array<ArrayBuffer>
