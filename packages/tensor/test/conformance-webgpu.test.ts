import { backend, setBackend } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Backend } from '../src/backend.ts'
import * as w from '../src/index.ts'
import { hasGpuFiles, nodeWebgpu } from '../src/node-webgpu.ts'
import { conform, fused, onlyShaders, table } from './conformance/run.ts'

// `npm test` brings a software adapter where there is no GPU; so does: node tools/swiftshader.mjs -- npx vitest run ...
const there = await hasGpuFiles()
const refused: string[] = []
let found: Backend
beforeAll(async () => {
  if (!there) return
  await w.cpu()
  found = await nodeWebgpu()
  onlyShaders()
  const { device } = backend() as unknown as { device: GPUDevice }
  device.addEventListener('uncapturederror', (e) => refused.push((e as GPUUncapturedErrorEvent).error.message))
})

describe.skipIf(!there)('webgpu through Dawn', () => {
  it('asks for all that the adapter has', async () => {
    const adapter = (await navigator.gpu.requestAdapter())!
    const { device } = backend() as unknown as { device: GPUDevice }
    for (const name of ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxComputeWorkgroupStorageSize'] as const)
      expect(device.limits[name]).toBe(adapter.limits[name])
    for (const feature of ['shader-f16', 'subgroups', 'timestamp-query'])
      expect(device.features.has(feature)).toBe(adapter.features.has(feature))
  })

  it('draws the random numbers that cpu draws', async () => {
    const draw = async (name: string): Promise<number[]> => {
      await setBackend(name)
      const r = w.rng(11)
      const parts = [r.normal([33], 0.02), r.uniform([33], -2, 5), r.bernoulli([33], 0.3)]
      // through a shader and back, so that the GPU's copy is read
      return (await Promise.all(parts.map((t) => w.reverse(t, 0).data()))).flatMap((v) => [...v])
    }
    expect(await draw('webgpu')).toEqual(await draw('cpu'))
  })

  it('keeps its tensors when it is started again', async () => {
    await setBackend('webgpu')
    const x = w.exp(w.tensor1d([0, 1]))
    await nodeWebgpu()
    expect([...(await x.data())][1]).toBeCloseTo(Math.E, 5)
    x.dispose()
  })

  it('says what to do where a synchronous read cannot work', async () => {
    await setBackend('webgpu')
    const x = w.exp(w.tensor1d([0, 1]))
    expect(() => x.dataSync()).toThrow('await tensor.data()')
    x.dispose()
  })

  it('is the best backend unless only software stands behind it, which best() says', async () => {
    const best = await w.best()
    if (found.software) {
      expect(best.name).toBe('wasm')
      expect(best.why).toContain(`webgpu has only a software adapter (${found.device})`)
    } else expect(best).toMatchObject({ name: 'webgpu', why: 'the fastest there is' })
  })
})

describe.skipIf(!there)('webgpu through Dawn does as cpu does', () => {
  for (const row of table)
    it.skipIf(row.skip?.['webgpu'])(row.name, async () => {
      await conform(row, 'webgpu', fused.includes(row) ? 3 : 2)
      expect(refused.splice(0)).toEqual([])
    })
})
