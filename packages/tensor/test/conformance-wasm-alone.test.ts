import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { conform, table } from './conformance/run.ts'

beforeAll(async () => {
  process.env['WEFT_BLAS'] = 'off'
  await w.cpu()
  expect((await w.wasm()).device).toMatch(/^WebAssembly( with \d+ threads)?$/)
})

describe('wasm without a system BLAS multiplies as cpu does', () => {
  const multiplying = table.filter(({ name }) => /^(matMul|linear|attention|crossEntropy)/.test(name))
  it('has rows', () => expect(multiplying.length).toBeGreaterThan(7))
  for (const row of multiplying) it(row.name, () => conform(row, 'wasm', 6))
})
