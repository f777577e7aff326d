import { backend } from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { nodeWebgpu } from '../src/node-webgpu.ts'
import { conform, onlyShaders, table } from './conformance/run.ts'

const refused: string[] = []
beforeAll(async () => {
  await w.cpu()
  await nodeWebgpu()
  onlyShaders()
  const { device } = backend() as unknown as { device: GPUDevice }
  device.addEventListener('uncapturederror', (e) => refused.push((e as GPUUncapturedErrorEvent).error.message))
})

describe('webgpu through Dawn does as cpu does', () => {
  for (const row of table)
    it.skipIf(row.skip?.['webgpu'])(row.name, async () => {
      await conform(row, 'webgpu', 3)
      expect(refused.splice(0)).toEqual([])
    })
})
afterAll(() => expect(refused).toEqual([]))
