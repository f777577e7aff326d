import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import {
  bySubgroups,
  dispatch,
  type Gpu,
  type Program,
  reductions,
  total,
  track,
} from '../src/kernels/webgpu/program.ts'
import { refused, startGpu, there } from './gpu.ts'

let gpu: Gpu
beforeAll(async () => {
  if (!there) return
  gpu = await startGpu()
})

/** the sum of each row, told by every thread; and once more, as shaders sum twice */
const sums = (threads: number): Program => ({
  name: `test sums ${threads}`,
  writes: ['y'],
  reads: ['x'],
  uniforms: { width: 'u32' },
  threads,
  head: total(threads),
  body: `
  var s = 0.0;
  for (var c = local; c < u.width; c += ${threads}u) { s += x[group.x * u.width + c]; }
  let whole = total(s, local);
  y[group.x * ${threads}u + local] = whole + total(f32(local), local);`,
})

describe.skipIf(!there)('sums over a workgroup', () => {
  for (const threads of [64, 128])
    for (const subgroups of [true, false])
      it(`of ${threads} threads ${subgroups ? 'by subgroups' : 'in workgroup memory'}`, async () => {
        reductions.subgroups = subgroups
        try {
          const program = sums(threads)
          const has = gpu.device.features.has('subgroups')
          expect(bySubgroups(gpu.device, program).enables?.includes('subgroups') ?? false).toBe(subgroups && has)
          for (const width of [1, 63, 64, 131]) {
            const x = w.tensor2d(
              Array.from({ length: 3 * width }, (_, i) => (i * 7) % 11),
              [3, width],
            )
            const [info] = dispatch(gpu, program, {
              reads: [x],
              writes: [[3, threads]],
              uniforms: [width],
              groups: [3],
            })
            const y = track(info!)
            const [values, found] = [[...(await x.data())], [...(await y.data())]]
            const more = (threads * (threads - 1)) / 2
            for (let r = 0; r < 3; r++) {
              const expected = values.slice(r * width, (r + 1) * width).reduce((a, b) => a + b, 0) + more
              expect(new Set(found.slice(r * threads, (r + 1) * threads))).toEqual(new Set([expected]))
            }
            w.dispose([x, y])
          }
          expect(refused).toEqual([])
        } finally {
          reductions.subgroups = true
        }
      })

  it('agree in the kernels that sum', async () => {
    const run = async (): Promise<number[]> => {
      const r = w.rng(3)
      const [x, scale, bias] = [r.normal([5, 77]), r.normal([77]), r.normal([77])]
      const { loss, grads } = w.backprop(
        (p) => w.sum(w.square(w.layerNorm(w.rmsNorm(p['x']!, p['scale']!), scale, bias))) as w.Scalar,
        { x, scale },
      )
      const values = [loss, grads['x']!, grads['scale']!].map((t) => t.data())
      return (await Promise.all(values)).flatMap((v) => [...v])
    }
    const by = await run()
    reductions.subgroups = false
    const plain = await run().finally(() => {
      reductions.subgroups = true
    })
    const largest = Math.max(...plain.map(Math.abs))
    for (const [i, v] of plain.entries()) expect(Math.abs(v - by[i]!) / largest).toBeLessThan(1e-5)
    expect(refused).toEqual([])
  })

  it('of what no binding holds are refused with the number', () => {
    const side = Math.floor(Math.sqrt(gpu.device.limits.maxStorageBufferBindingSize / 4)) + 1
    expect(() => w.fill([side, side], 1)).toThrow(
      new RegExp(
        `a tensor \\[${side},${side}\\] takes [\\d.]+ GB, and this GPU binds at most [\\d.]+ GB at a time; make it in pieces`,
      ),
    )
    expect(refused).toEqual([])
  })
})
