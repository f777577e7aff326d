import { backend } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { gatherRows } from '../src/kernels/webgpu/gather.ts'
import { hasGpuFiles, nodeWebgpu } from '../src/node-webgpu.ts'

const there = await hasGpuFiles()
beforeAll(async () => {
  if (there) await nodeWebgpu()
})

/** the gradient of rows taken from [rows, width], on the GPU and as a sum in the order of the ids */
const both = async (ids: number[], rows: number, width: number): Promise<[found: number[], expected: number[]]> => {
  const dy = w.rng(ids.length).normal([ids.length, width])
  const index = w.tensor1d(ids, 'int32')
  const found = gatherRows.gradient!(
    {
      dy,
      dys: [dy],
      saved: { index } as never,
      attrs: {},
      wants: () => true,
      onto: () => undefined,
      shapes: { w: [rows, width], index: [ids.length] },
    },
    backend() as never,
  )!.w!
  expect(found.shape).toEqual([rows, width])
  const values = await dy.data()
  const expected = new Float32Array(rows * width)
  ids.forEach((id, i) => {
    for (let c = 0; c < width; c++)
      expected[id * width + c] = Math.fround(expected[id * width + c]! + values[i * width + c]!)
  })
  const result = [...(await found.data())]
  w.dispose([dy, index, found])
  return [result, [...expected]]
}

describe.skipIf(!there)('the gradient of rows on webgpu', () => {
  it.each([
    ['one row of one', [0], 1, 1],
    ['rows taken often, in any order', [2, 0, 2, 2, 1, 0, 2], 4, 5],
    ['more places than a workgroup, more columns too', Array.from({ length: 300 }, (_, i) => (i * i) % 97), 131, 70],
    ['all places one row', Array(130).fill(3), 9, 3],
  ] as [string, number[], number, number][])(
    '%s: the sum in the order of the index, bit for bit',
    async (_, ...args) => {
      const [found, expected] = await both(...args)
      expect(found).toEqual(expected)
    },
  )
})
