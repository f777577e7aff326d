import { symmetric } from '../nibbles.ts'
import type { Block } from '../types.ts'

/** d·(q − 16), q of 5 bits, the highest apart */
export const q5_0: Block = symmetric('Q5_0', 5)
