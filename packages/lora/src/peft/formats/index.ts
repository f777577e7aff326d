// Written by `npm run generate` from this folder.
import type { PeftFormat } from '../format.ts'
import { format as adalora } from './adalora.ts'
import { format as alora } from './alora.ts'
import { format as boft } from './boft.ts'
import { format as bone } from './bone.ts'
import { format as c3a } from './c3a.ts'
import { format as corda } from './corda.ts'
import { format as delora } from './delora.ts'
import { format as dora } from './dora.ts'
import { format as eva } from './eva.ts'
import { format as expertLora } from './expert-lora.ts'
import { format as fourierft } from './fourierft.ts'
import { format as gralora } from './gralora.ts'
import { format as hira } from './hira.ts'
import { format as hra } from './hra.ts'
import { format as ia3 } from './ia3.ts'
import { format as kasa } from './kasa.ts'
import { format as lnTuning } from './ln-tuning.ts'
import { format as loftq } from './loftq.ts'
import { format as loha } from './loha.ts'
import { format as lokr } from './lokr.ts'
import { format as lora } from './lora.ts'
import { format as loraGa } from './lora-ga.ts'
import { format as miss } from './miss.ts'
import { format as oft } from './oft.ts'
import { format as olora } from './olora.ts'
import { format as pissa } from './pissa.ts'
import { format as poly } from './poly.ts'
import { format as qaLora } from './qa-lora.ts'
import { format as randlora } from './randlora.ts'
import { format as road } from './road.ts'
import { format as rslora } from './rslora.ts'
import { format as shira } from './shira.ts'
import { format as trainableTokens } from './trainable-tokens.ts'
import { format as vbLora } from './vb-lora.ts'
import { format as vera } from './vera.ts'
import { format as xLora } from './x-lora.ts'

/** every method that PEFT has and we have */
export const formats: readonly PeftFormat[] = [
  adalora,
  alora,
  boft,
  bone,
  c3a,
  corda,
  delora,
  dora,
  eva,
  expertLora,
  fourierft,
  gralora,
  hira,
  hra,
  ia3,
  kasa,
  lnTuning,
  loftq,
  loha,
  lokr,
  loraGa,
  lora,
  miss,
  oft,
  olora,
  pissa,
  poly,
  qaLora,
  randlora,
  road,
  rslora,
  shira,
  trainableTokens,
  vbLora,
  vera,
  xLora,
]
