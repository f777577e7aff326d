// Written by `npm run generate` from this folder.

import { format as aqlm } from './aqlm.ts'
import { format as awq } from './awq.ts'
import { format as bnb } from './bnb.ts'
import type { PackedFormat } from './format.ts'
import { format as fp8 } from './fp8.ts'
import { format as gptq } from './gptq.ts'
import { format as hqq } from './hqq.ts'
import { format as weft } from './weft.ts'

/** every layout of packed weights */
export const formats: readonly PackedFormat[] = [aqlm, awq, bnb, fp8, gptq, hqq, weft]
