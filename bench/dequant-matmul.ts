import type { Bench } from './harness/types.ts'
import { kernelBench } from './sides/kernel-bench.ts'

export const bench: Bench = kernelBench('dequant-matmul', 'products with NF4 weights that are decoded within', {
  peer: 'decode, then multiply',
  script: 'weft-kernel.ts',
})
