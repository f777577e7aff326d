import { beforeAll, describe, it } from 'vitest'
import * as w from '../src/index.ts'
import { conform, table } from './conformance/run.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})

describe('wasm, with a system BLAS where there is one, does as cpu does', () => {
  for (const row of table) it.skipIf(row.skip?.['wasm'])(row.name, () => conform(row, 'wasm', 6))
})
