import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu'
import { copyRegisteredKernels, registerBackend } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import * as kernels from '../src/kernels/index.ts'
import * as opsModule from '../src/ops.ts'
import { conform, table } from './conformance/run.ts'

beforeAll(async () => {
  await w.cpu()
  registerBackend('other', () => {
    const backend = new MathBackendCPU()
    ;(backend as unknown as { firstUse: boolean }).firstUse = false // or it advertises on the console
    return backend
  })
  copyRegisteredKernels('cpu', 'other')
})

it('has a row for every op and every fused kernel', () => {
  const named = new Set(table.map((r) => r.name.split(/[ ,]/)[0]))
  const exported = [...Object.keys(opsModule), ...Object.keys(kernels)]
  expect(exported.length).toBeGreaterThan(100)
  expect(exported.filter((name) => !named.has(name))).toEqual([])
  expect([...named].filter((name) => !exported.includes(name!))).toEqual([])
})

it('gives a reason for every row that a backend skips', () => {
  for (const { name, skip } of table)
    for (const reason of Object.values(skip ?? {})) expect(reason.length, name).toBeGreaterThan(20)
})

describe('a backend that nobody here has heard of runs everything through the plain ops', () => {
  for (const row of table) it(row.name, () => conform(row, 'other', 3))
})
