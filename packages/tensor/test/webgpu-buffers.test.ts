import { env } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { pool } from '../src/kernels/webgpu/buffers.ts'
import { dispatch, type Gpu, type Program, track } from '../src/kernels/webgpu/program.ts'
import { refused, startGpu, there } from './gpu.ts'

let gpu: Gpu
beforeAll(async () => {
  if (!there) return
  gpu = await startGpu()
  env().set('WEBGPU_CPU_FORWARD', false)
})
const numbers = async (t: w.Tensor): Promise<number[]> => [...(await t.data())]

/** y[i] = number */
const fill: Program = {
  name: 'test fill',
  writes: ['y'],
  reads: [],
  uniforms: { value: 'f32' },
  threads: 1,
  body: 'y[group.x] = u.value;',
}
const filled = (value: number, size = 4): w.Tensor =>
  track(dispatch(gpu, fill, { reads: [], writes: [[size]], uniforms: [value], groups: [size] })[0]!)

describe.skipIf(!there)('buffers on the GPU', () => {
  it('are not written by the CPU while commands that wait for submission read them', async () => {
    const twice: w.Tensor[] = []
    for (let i = 0; i < 40; i++) {
      // each x is uploaded, read by a recorded command and gone before that command is submitted
      const x = w.tensor1d([i, 1, 2, 3, 4])
      twice.push(w.concat([x, x]))
      x.dispose()
    }
    for (const [i, y] of twice.entries()) expect(await numbers(y)).toEqual([i, 1, 2, 3, 4, i, 1, 2, 3, 4])
    w.dispose(twice)
  })

  it('serve again what comes next at once, as commands run in order', async () => {
    const used = gpu.bufferManager.getNumUsedBuffers()
    const before = gpu.bufferManager.getNumUsedBuffers() + gpu.bufferManager.getNumFreeBuffers()
    let x = filled(0, 77)
    for (let i = 0; i < 50; i++) {
      const y = w.add(x, 1)
      x.dispose()
      x = y
    }
    expect(await numbers(x)).toEqual(Array(77).fill(50))
    x.dispose()
    // the numbers of two shaders stay
    expect(gpu.bufferManager.getNumUsedBuffers()).toBeLessThanOrEqual(used + 2)
    // two for x and y, one to read from, and one for each 1 that is uploaded between two submissions
    const after = gpu.bufferManager.getNumUsedBuffers() + gpu.bufferManager.getNumFreeBuffers()
    expect(after - before).toBeLessThan(50 + 8)
  })

  it('find their numbers again after thousands of others were made', async () => {
    const first = filled(0.5)
    for (let i = 0; i < 9000; i++) filled(i).dispose()
    const again = filled(0.5)
    expect(await numbers(again)).toEqual([0.5, 0.5, 0.5, 0.5])
    expect(await numbers(first)).toEqual([0.5, 0.5, 0.5, 0.5])
    w.dispose([first, again])
    // what is forgotten is free again: at most two halves of the cache are kept
    for (let i = 0; i < 9000; i++) filled(i + 0.25).dispose()
    expect(gpu.bufferManager.getNumUsedBuffers()).toBeLessThan(2 * 4096 + 100)
    expect(refused).toEqual([])
  })

  it('are given by lowest number, and back to the device when nothing has asked for long', () => {
    const p = pool(gpu.device)
    const take = (written = false): GPUBuffer => p.take(64, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST, written)
    const [a, b, c] = [take(), take(), take()]
    for (const x of [b, c, a]) p.releaseBuffer(x!)
    expect([take(), take(), take()]).toEqual([a, b, c])
    p.releaseBuffer(b!)
    const d = take(true)
    expect(d).not.toBe(b)
    p.submitted()
    expect(take(true)).toBe(b)
    expect(p.numBytesUsed).toBe(256)
    for (const x of [a, b, c, d]) p.releaseBuffer(x!)
    expect([p.getNumFreeBuffers(), p.getNumUsedBuffers(), p.numBytesUsed]).toEqual([4, 0, 0])
    for (let i = 0; i < 4096; i++) p.submitted()
    expect([p.getNumFreeBuffers(), p.numBytesAllocated]).toEqual([0, 0])
    p.dispose()
  })

  it('hold integers and truth values as they are uploaded', async () => {
    const ids = w.tensor1d([1, -7, 2 ** 30], 'int32')
    const yes = w.tensor1d([true, false, true], 'bool')
    const reversed = [w.reverse(ids, 0), w.where(yes, ids, w.mul(ids, 2))]
    expect(await numbers(reversed[0]!)).toEqual([2 ** 30, -7, 1])
    expect(await numbers(reversed[1]!)).toEqual([1, -14, 2 ** 30])
    w.dispose([ids, yes, ...reversed])
  })
})
