/**
 * Low-rank adaptation: train a few numbers beside a frozen network, read and write PEFT's files.
 * @packageDocumentation
 */
export { type LoraOptions, type LoraState, lora } from './lora.ts'
export { type Attached, type FromPeft, fromPeft, loadPeft, type PeftTensor, peftTensors } from './peft.ts'
export { type PeftConfig, peftConfig, readPeftConfig } from './peft-config.ts'
export { peftConfigOf, type SavePeftOptions, savePeft, toPeft } from './save-peft.ts'
export { type PeftTargets, peftTargets, peftTrained } from './target.ts'
