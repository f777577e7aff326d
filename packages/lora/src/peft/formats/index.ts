// Written by `npm run generate` from this folder.
import type { PeftFormat } from '../format.ts'
import { format as alora } from './alora.ts'
import { format as boft } from './boft.ts'
import { format as expertLora } from './expert-lora.ts'
import { format as fourierft } from './fourierft.ts'
import { format as gralora } from './gralora.ts'
import { format as hira } from './hira.ts'
import { format as hra } from './hra.ts'
import { format as loha } from './loha.ts'
import { format as lokr } from './lokr.ts'
import { format as lora } from './lora.ts'
import { format as oft } from './oft.ts'
import { format as randlora } from './randlora.ts'
import { format as road } from './road.ts'
import { format as vera } from './vera.ts'

/** every method that PEFT has and we have */
export const formats: readonly PeftFormat[] = [
  alora,
  boft,
  expertLora,
  fourierft,
  gralora,
  hira,
  hra,
  loha,
  lokr,
  lora,
  oft,
  randlora,
  road,
  vera,
]
