import { symmetric } from '../nibbles.ts'
import type { Block } from '../types.ts'

/** d·(q − 8), q of 4 bits */
export const q4_0: Block = symmetric('Q4_0', 4)
