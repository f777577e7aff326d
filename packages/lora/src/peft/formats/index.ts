// Written by `npm run generate` from this folder.
import type { PeftFormat } from '../format.ts'
import { format as alora } from './alora.ts'
import { format as expertLora } from './expert-lora.ts'
import { format as lora } from './lora.ts'

/** every method that PEFT has and we have */
export const formats: readonly PeftFormat[] = [alora, expertLora, lora]
