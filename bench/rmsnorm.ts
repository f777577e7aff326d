import type { Bench } from './harness/types.ts'
import { kernelBench } from './sides/kernel-bench.ts'

export const bench: Bench = kernelBench('rmsnorm', 'RMSNorm alone, forward and backward')
