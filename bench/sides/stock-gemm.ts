/** Products by stock tfjs, in the form that a user would write. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type * as Tf from '@tensorflow/tfjs-core'
import { peersFolder } from '../harness/peers.ts'
import { dawn } from './gpu.ts'
import { callsFor, perCall } from './repeat.ts'
import { serve } from './serve.ts'
import { SMOL, valuesOf } from './shape.ts'

await serve(async ({ backend, software }: { backend: 'wasm' | 'webgpu'; software: boolean }) => {
  const gpu = backend === 'webgpu'
  if (gpu) await dawn()
  const require = createRequire(join(peersFolder, 'package.json'))
  const tf = require('@tensorflow/tfjs') as typeof Tf
  require(`@tensorflow/tfjs-backend-${backend}`)
  await tf.setBackend(backend)
  await tf.ready()
  const small = gpu && software
  const [m, D, F, V] = [small ? 64 : 256, SMOL.width, SMOL.hidden, small ? 4096 : SMOL.vocabulary]
  const made = (rows: number, columns: number): Tf.Tensor2D =>
    tf.tensor2d(valuesOf(`stock.${rows}.${columns}`, [rows, columns]), [rows, columns])
  const [x, w, dy, head, a, row] = [made(m, D), made(F, D), made(m, F), made(V, D), made(8, D), made(1, D)]
  // in the order of the cases of kernels.ts
  const cases = [
    () => tf.matMul(x, w, false, true),
    () => tf.matMul(dy, w),
    () => tf.matMul(dy, x, true),
    () => tf.matMul(x, head, false, true),
    () => tf.matMul(x, a, false, true),
    () => tf.matMul(row, head, false, true),
  ]
  const calls: number[] = []
  for (const run of cases) calls.push(await callsFor(run, gpu))
  const unit = async (): Promise<Record<string, number>> => {
    const found: Record<string, number> = {}
    for (const [i, run] of cases.entries()) found[`ms${i}`] = await perCall(run, gpu, calls[i]!)
    return found
  }
  return { facts: { tfjs: '4.22.0', backend }, unit }
})
