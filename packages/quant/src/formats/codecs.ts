// Written by `npm run generate` from the codecs of this package.
import type { Codec } from '@weftjs/spec'
import { affine } from '../affine.ts'
import { aqlm } from '../aqlm.ts'
import { awq } from '../awq.ts'
import { bf16 } from '../bf16.ts'
import { binary } from '../binary.ts'
import { compeft } from '../compeft.ts'
import { dynamic8 } from '../dynamic8.ts'
import { f16 } from '../f16.ts'
import { fp4 } from '../fp4.ts'
import { fp8 } from '../fp8.ts'
import { gguf } from '../gguf.ts'
import { gptq } from '../gptq.ts'
import { hqq } from '../hqq.ts'
import { int2 } from '../int2.ts'
import { int3 } from '../int3.ts'
import { int4 } from '../int4.ts'
import { int8 } from '../int8.ts'
import { llmInt8 } from '../llm-int8.ts'
import { nf4 } from '../nf4.ts'
import { outliers } from '../outliers.ts'
import { state4 } from '../state4.ts'
import { ternary } from '../ternary.ts'

/** factories by the names that their codecs have */
export const codecs: Readonly<Record<string, (options?: any) => Codec<any>>> = {
  affine,
  aqlm,
  awq,
  bf16,
  binary,
  compeft,
  dynamic8,
  f16,
  fp4,
  fp8,
  gguf,
  gptq,
  hqq,
  int2,
  int3,
  int4,
  int8,
  'llm-int8': llmInt8,
  nf4,
  outliers,
  state4,
  ternary,
}
