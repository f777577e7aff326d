import { wasm } from '@weftjs/tensor'
import { testProducts } from './products.ts'

testProducts('wasm without a system BLAS', async () => {
  process.env['WEFT_BLAS'] = 'off'
  await wasm()
})
