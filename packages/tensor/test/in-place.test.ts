import { setBackend } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { inPlaceLaws } from './in-place.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})

describe.each(['cpu', 'wasm'])("the optimizer's part of a step on %s", (backend) => {
  for (const [name, law] of Object.entries(inPlaceLaws)) it(name, () => law(backend))
})

it('on the wasm heap it makes no tensor', async () => {
  await setBackend('wasm')
  const make = (): Record<string, w.Tensor> => ({ a: w.ones([5]), b: w.ones([2, 3]) })
  const [grads, m, v, params] = [make(), make(), make(), make()]
  const { numTensors } = w.memory()
  const found = w.adamUpdates(grads, { m, v }, params, { b1: 0.9, b2: 0.9, eps: 0, decay: 0.5, scale: 1, step: 2 })
  w.tidy(() => w.scaleInPlace(grads, 2))
  const sum = w.addInPlace(params, grads)
  expect(w.memory().numTensors).toBe(numTensors)
  for (const n of ['a', 'b']) {
    expect([found.updates[n], found.m[n], found.v[n], sum[n]]).toEqual([grads[n], m[n], v[n], params[n]])
    expect(found.updates[n]).toBe(grads[n])
    expect(sum[n]).toBe(params[n])
  }
})
