import type { Bench } from './harness/types.ts'
import { kernelBench } from './sides/kernel-bench.ts'

export const bench: Bench = kernelBench('ce', 'cross-entropy from hidden states, 49152 words, without whole logits')
