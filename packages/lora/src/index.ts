/**
 * Low-rank adaptation: train a few numbers beside a frozen network, read and write PEFT's files.
 * @packageDocumentation
 */
export { type LoraOptions, type LoraState, lora } from './lora.ts'
export { type PeftConfig, peftConfig, readPeftConfig } from './peft/config.ts'
export { type Attached, type FromPeft, fromPeft, loadPeft, type PeftTensor, peftTensors } from './peft/load.ts'
export { peftConfigOf, type SavePeftOptions, savePeft, toPeft } from './peft/save.ts'
export { type PeftTargets, peftTargets, peftTrained } from './peft/target.ts'
