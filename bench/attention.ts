import type { Bench } from './harness/types.ts'
import { kernelBench } from './sides/kernel-bench.ts'

export const bench: Bench = kernelBench(
  'attention',
  'causal attention alone, 9 heads in 3 groups of width 64, forward and backward',
)
