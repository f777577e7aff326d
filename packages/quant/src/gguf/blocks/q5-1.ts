import { affine } from '../nibbles.ts'
import type { Block } from '../types.ts'

/** d·q + m, q of 5 bits, the highest apart */
export const q5_1: Block = affine('Q5_1', 5)
