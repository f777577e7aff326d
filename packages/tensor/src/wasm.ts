import {
  backend,
  env,
  getKernel,
  ready,
  registerKernel,
  setBackend,
  type TensorInfo,
  unregisterKernel,
} from '@tensorflow/tfjs-core'
import { type Backend, isNode, needs } from './backend.ts'
import { threads } from './heap.ts'
import { sharedPaths } from './wasm/threads.ts'
import { installWasmMatmul } from './wasm-matmul.ts'

export interface WasmOptions {
  /** where a bundler put tfjs-backend-wasm's three .wasm files: a folder's URL, or one URL per file name */
  readonly paths?: string | Record<string, string>
}

interface WasmBackend {
  makeOutput(shape: number[], dtype: string): TensorInfo
  typedArrayFromHeap(t: TensorInfo): Float32Array | Int32Array | Uint8Array
}

/** Σ rows of x by segment: the gradient of gather, which tfjs-backend-wasm lacks */
const segmentSum = (): void => {
  if (getKernel('UnsortedSegmentSum', 'wasm')) return
  registerKernel({
    kernelName: 'UnsortedSegmentSum',
    backendName: 'wasm',
    kernelFunc: ({ inputs, attrs, backend }) => {
      const wasm = backend as unknown as WasmBackend
      const { x, segmentIds } = inputs as Record<string, TensorInfo>
      const { numSegments } = attrs as unknown as { numSegments: number }
      const rest = x!.shape.slice(1)
      const width = rest.reduce((p, n) => p * n, 1)
      // allocate first: it may move the heap
      const out = wasm.makeOutput([numSegments, ...rest], 'float32')
      const y = wasm.typedArrayFromHeap(out)
      const rows = wasm.typedArrayFromHeap(x!)
      const ids = wasm.typedArrayFromHeap(segmentIds!)
      y.fill(0)
      for (let i = 0; i < ids.length; i++) {
        const to = ids[i]! * width
        if (to < 0) continue
        for (let j = 0, from = i * width; j < width; j++) y[to + j]! += rows[from + j]!
      }
      return out
    },
  })
}

/** a cast to bool that gives 0 and 1 (tfjs's keeps the low byte), and a sign that knows small numbers */
const exact = (): void => {
  const elementwise = (
    kernelName: string,
    takes: (x: TensorInfo, attrs: Record<string, unknown>) => boolean,
    f: (x: number) => number,
    dtype?: 'bool',
  ): void => {
    const stock = getKernel(kernelName, 'wasm')
    unregisterKernel(kernelName, 'wasm')
    registerKernel({
      ...stock,
      kernelFunc: (call) => {
        const { x } = call.inputs as { x: TensorInfo }
        if (!takes(x, call.attrs as unknown as Record<string, unknown>)) return stock.kernelFunc(call)
        const wasm = call.backend as unknown as WasmBackend
        const out = wasm.makeOutput(x.shape, dtype ?? x.dtype)
        const y = wasm.typedArrayFromHeap(out)
        const values = wasm.typedArrayFromHeap(x)
        for (let i = 0; i < values.length; i++) y[i] = f(values[i]!)
        return out
      },
    })
  }
  elementwise(
    'Cast',
    (x, { dtype }) => dtype === 'bool' && x.dtype !== 'bool',
    (x) => (x === 0 ? 0 : 1),
    'bool',
  )
  elementwise(
    'Sign',
    (x) => x.dtype === 'float32',
    (x) => (x > 0 ? 1 : x < 0 ? -1 : 0),
  )
}

let repaired = false
/** of the first call: tfjs reads its file once */
let sharing: Promise<Record<string, string> | undefined> | undefined

/**
 * tfjs's module listens for uncaught errors of the whole process and throws them again, so that Node prints the minified
 * module instead of the error. The call takes back what has been added since.
 */
const withoutListeners = (): (() => void) => {
  const events = ['uncaughtException', 'unhandledRejection'] as const
  const before = events.map((e) => new Set<unknown>(process.listeners(e as 'uncaughtException')))
  return () => {
    events.forEach((event, i) => {
      for (const listener of process.listeners(event as 'uncaughtException'))
        if (!before[i]!.has(listener)) process.off(event, listener)
    })
  }
}

/**
 * WebAssembly with SIMD; in Node with a system BLAS where one is found, else in threads where memory can be shared.
 * Options matter on the first call only.
 */
export const wasm = async ({ paths }: WasmOptions = {}): Promise<Backend> => {
  const tf = await needs(() => import('@tensorflow/tfjs-backend-wasm'), '@tensorflow/tfjs-backend-wasm')
  // the threaded build keeps its memory to itself, so that our matrix product would not run
  env().set('WASM_HAS_MULTITHREAD_SUPPORT', false)
  sharing ??= sharedPaths(paths)
  const shared = await sharing
  if (shared) tf.setWasmPaths(shared, true)
  else if (paths) tf.setWasmPaths(paths)
  const quiet = isNode() ? withoutListeners() : () => {}
  if (!(await setBackend('wasm')))
    throw new Error('wasm: tfjs-backend-wasm could not start; are its .wasm files served? Set `paths`')
  await ready()
  quiet()
  segmentSum()
  if (!repaired) exact()
  repaired = true
  await installWasmMatmul(backend())
  ;(await import('./kernels/wasm/index.ts')).installHeapKernels()
  const blas = isNode() ? await (await import('./blas.ts')).useBlas() : ''
  const several = threads() > 1 ? `${threads()} threads` : ''
  return { name: 'wasm', device: ['WebAssembly', blas || several].filter(Boolean).join(' with ') }
}
