/** A LoRA step of jax-js in its idiom: pure functions, jit, valueAndGrad, arrays that are used up unless `.ref` is taken. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { peersFolder } from '../harness/peers.ts'
import { countDispatches, dawn } from './gpu.ts'
import { serve } from './serve.ts'
import { idsOf, type Shape } from './shape.ts'
import { webWorkers } from './web-worker.ts'

interface Options {
  readonly shape: Shape
  readonly length: number
  readonly rank: number
  readonly backend?: 'wasm' | 'webgpu'
}

// Node 20 has no iterator helpers, which jax-js expects
const iterators = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()))
iterators.map ??= function* <T, U>(this: Iterable<T>, f: (x: T) => U): Generator<U> {
  for (const x of this) yield f(x)
}
iterators.filter ??= function* <T>(this: Iterable<T>, f: (x: T) => boolean): Generator<T> {
  for (const x of this) if (f(x)) yield x
}

await serve<Options>(async ({ shape, length, rank, backend = 'wasm', threads }: Options & { threads: number }) => {
  const gpu = backend === 'webgpu'
  if (gpu) await dawn()
  else webWorkers(threads)
  const dispatches = gpu ? countDispatches() : () => 0
  const jax = await import(pathToFileURL(join(peersFolder, 'node_modules/@jax-js/jax/dist/index.js')).href)
  const { jaxStep } = await import('./jax-model.ts')
  const found: string[] = await jax.init(backend)
  if (!found.includes(backend)) throw new Error(`jax-js could not start its ${backend} backend here`)
  jax.defaultDevice(backend)
  const step = jaxStep(jax, shape, rank, idsOf(shape.vocabulary, length))
  const unit = async (): Promise<Record<string, number>> => {
    const before = dispatches()
    const loss = await step()
    return { check: loss, ...(gpu && { dispatches: dispatches() - before }) }
  }
  const { check } = await unit()
  return {
    facts: { 'jax-js': '0.1.25', backend, ...(!gpu && { threads }) },
    ...(check !== undefined && { check }),
    unit,
  }
})
