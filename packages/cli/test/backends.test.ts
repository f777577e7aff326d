import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { softwareVulkan } from '../../../tools/swiftshader.mjs'
import { losses, project, spawned, weft } from './weft.ts'

const settings = {
  adapters: [{ method: 'lora', at: 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}', rank: 4, alpha: 8 }],
  train: { steps: 5, batch: 2, length: 12, lr: 1e-2, schedule: 'constant', weight_decay: 0, clip: 1 },
}
const trained = async (folder: string): Promise<{ losses: number[]; backend: string }> => ({
  losses: (await losses(join(folder, 'out'))).map(Number),
  backend: JSON.parse(await readFile(join(folder, 'out/run.json'), 'utf8')).backend.name as string,
})

describe('a run has the same losses on every backend', () => {
  let expected: number[]
  beforeAll(async () => {
    const folder = await project(settings)
    expect((await weft(['finetune', join(folder, 'run.yaml'), '--backend', 'cpu'])).code).toBe(0)
    expected = (await trained(folder)).losses
    // so that the steps after the first are compared too, they must do something
    const still = await project({ ...settings, train: { ...settings.train, lr: 1e-9 } })
    expect((await weft(['finetune', join(still, 'run.yaml'), '--backend', 'cpu'])).code).toBe(0)
    const { losses: idle } = await trained(still)
    expect(idle[0]).toBe(expected[0])
    expect(Math.max(...idle.map((l, i) => Math.abs(l - expected[i]!)))).toBeGreaterThan(0.05)
  })
  const same = (found: readonly number[]): void => {
    expect(found).toHaveLength(expected.length)
    for (const [i, loss] of found.entries()) expect(Math.abs(loss - expected[i]!)).toBeLessThan(1e-3)
  }

  it('wasm', async () => {
    const folder = await project(settings)
    expect((await weft(['finetune', join(folder, 'run.yaml'), '--backend', 'wasm'])).code).toBe(0)
    const { losses, backend } = await trained(folder)
    expect(backend).toBe('wasm')
    same(losses)
  })

  // where no software adapter is carried, a GPU must be there to be asked
  it.skipIf(process.platform !== 'linux' || process.arch !== 'x64')('webgpu, through Dawn', async () => {
    const folder = await project(settings)
    const env = (await softwareVulkan()) as Record<string, string>
    const { code, err } = await spawned(['finetune', join(folder, 'run.yaml'), '--backend', 'webgpu'], { env })
    expect({ code, err }).toMatchObject({ code: 0 })
    const { losses, backend } = await trained(folder)
    expect(backend).toBe('webgpu')
    same(losses)
  })
})

it('without WebGPU it says so, and what to take instead', async () => {
  const folder = await project()
  // a Vulkan loader that knows of no driver
  const env = { VK_ICD_FILENAMES: '/nowhere.json', VK_DRIVER_FILES: '/nowhere.json', WEFT_GPU: 'real' }
  const { code, err, out } = await spawned(['finetune', join(folder, 'run.yaml'), '--backend', 'webgpu'], { env })
  expect({ code, out }).toEqual({ code: 1, out: '' })
  expect(err).toMatch(
    /weft finetune: --backend webgpu does not work here: webgpu: .*; take --backend wasm or cpu, or leave it out/,
  )
})
