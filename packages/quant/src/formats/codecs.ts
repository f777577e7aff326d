// Written by `npm run generate` from the codecs of this package.
import type { Codec } from '@weftjs/spec'
import { aqlm } from '../aqlm.ts'
import { bf16 } from '../bf16.ts'
import { compeft } from '../compeft.ts'
import { dynamic8 } from '../dynamic8.ts'
import { f16 } from '../f16.ts'
import { fp4 } from '../fp4.ts'
import { gptq } from '../gptq.ts'
import { hqq } from '../hqq.ts'
import { int8 } from '../int8.ts'
import { nf4 } from '../nf4.ts'
import { state4 } from '../state4.ts'

/** factories by the names that their codecs have */
export const codecs: Readonly<Record<string, (options?: any) => Codec<any>>> = {
  aqlm,
  bf16,
  compeft,
  dynamic8,
  f16,
  fp4,
  gptq,
  hqq,
  int8,
  nf4,
  state4,
}
