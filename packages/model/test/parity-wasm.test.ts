import { wasm } from '@weftjs/tensor'
import { parity } from './parity.ts'

// with every fused kernel of the heap, and a system BLAS where there is one
parity(wasm)
