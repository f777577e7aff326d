import type { Bench } from './harness/types.ts'
import { kernelBench } from './sides/kernel-bench.ts'

export const bench: Bench = kernelBench('gemm', 'matrix products alone, at the shapes of the models', {
  peer: 'stock tfjs',
  script: 'stock-gemm.ts',
  needs: ['tfjs'],
})
