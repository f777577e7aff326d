/** A LoRA step of stock tfjs, its own kernels and gradients, in a process that never loads @weftjs/tensor. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type * as Tf from '@tensorflow/tfjs-core'
import { peersFolder } from '../harness/peers.ts'
import { countDispatches, dawn } from './gpu.ts'
import { serve } from './serve.ts'
import { idsOf, type Shape } from './shape.ts'
import { adamw, model } from './stock-model.ts'

interface Options {
  readonly shape: Shape
  readonly length: number
  readonly rank: number
  readonly backend?: 'wasm' | 'webgpu'
}

await serve(async ({ shape, length, rank, backend = 'wasm' }: Options) => {
  const gpu = backend === 'webgpu'
  if (gpu) await dawn()
  const dispatches = gpu ? countDispatches() : () => 0
  const require = createRequire(join(peersFolder, 'package.json'))
  const tf = require('@tensorflow/tfjs') as typeof Tf
  require(`@tensorflow/tfjs-backend-${backend}`)
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs could not start its ${backend} backend`)
  await tf.ready()
  const step = adamw(tf, model(tf, shape, rank, idsOf(shape.vocabulary, length)))
  const unit = async (): Promise<Record<string, number>> => {
    const before = dispatches()
    const loss = step()
    const [value] = await loss.data()
    loss.dispose()
    return { check: value!, ...(gpu && { dispatches: dispatches() - before }), tensors: tf.memory().numTensors }
  }
  const { check } = await unit()
  return { facts: { tfjs: '4.22.0', backend }, ...(check !== undefined && { check }), unit }
})
