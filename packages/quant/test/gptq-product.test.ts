import { cpu, wasm } from '@weftjs/tensor'
import { describe, it } from 'vitest'
import { PRODUCTS } from './gptq-products.ts'
import { compare } from './products.ts'

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('products with a gptq weight on %s', (name, backend) => {
  it.each(PRODUCTS)('%s: values, gradients and rows are those of the decoded matrix', async (_, codec, cases) => {
    await backend()
    for (const c of cases) await compare(name, codec, c)
  })
})
