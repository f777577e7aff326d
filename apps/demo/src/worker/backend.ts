import plain from '@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url'
import simd from '@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url'
import { type Backend, best, cpu, wasm, webgpu } from '@weftjs/tensor'
import type { Choice, Device } from '../protocol.ts'

const paths = {
  'tfjs-backend-wasm.wasm': plain,
  'tfjs-backend-wasm-simd.wasm': simd,
  // must be named and is never loaded: our own threads work on the memory of the module above
  'tfjs-backend-wasm-threaded-simd.wasm': simd,
}

const STARTS: Readonly<Record<Choice, () => Promise<Backend>>> = {
  auto: () => best({ paths }),
  webgpu,
  wasm: () => wasm({ paths }),
  cpu,
}

/** what `best` says of WebGPU, for a visitor of the page */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [
    /no navigator\.gpu/,
    'this browser does not offer it here, though recent versions of Chrome, Edge, Safari and Firefox do, and it would be faster',
  ],
  [/no adapter/, 'the browser found no graphics processor that it may use'],
  [/software adapter/, 'the only adapter is a software one, which is slower than WebAssembly'],
]

export interface Started {
  readonly told: Device
  readonly failure: Promise<Error> | undefined
}

/** Starts what was chosen, or the fastest that works, and says why it is not WebGPU. */
export const startBackend = async (choice: Choice): Promise<Started> => {
  const { name, device, why = '', failure } = await STARTS[choice]()
  const passedOver = choice === 'auto' && name !== 'webgpu'
  const known = REASONS.find(([pattern]) => pattern.test(why))?.[1]
  // on plain JavaScript more has failed than WebGPU
  const reason = known && name === 'wasm' ? known : why
  return { told: { name, device, ...(passedOver && { fallback: reason }) }, failure }
}
