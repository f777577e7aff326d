import type { Block } from '../types.ts'
import { iq1_m } from './iq1-m.ts'
import { iq1_s } from './iq1-s.ts'
import { iq2_s } from './iq2-s.ts'
import { iq2_xs } from './iq2-xs.ts'
import { iq2_xxs } from './iq2-xxs.ts'
import { iq3_s } from './iq3-s.ts'
import { iq3_xxs } from './iq3-xxs.ts'

/** The types of ggml that are points of grids: apart from the others, so that only who reads them loads the grids. */
export const griddedBlocks: readonly Block[] = [iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s, iq1_s, iq1_m]
