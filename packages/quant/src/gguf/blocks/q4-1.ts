import { affine } from '../nibbles.ts'
import type { Block } from '../types.ts'

/** d·q + m, q of 4 bits */
export const q4_1: Block = affine('Q4_1', 4)
