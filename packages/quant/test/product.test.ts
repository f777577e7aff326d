import { cpu, wasm } from '@weftjs/tensor'
import { testProducts } from './products.ts'

testProducts('cpu', cpu, { large: [201, 301] })
// more rows than are decoded at a time
testProducts('wasm', wasm)
