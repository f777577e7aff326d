/**
 * Parameter-efficient tuning: train a few numbers beside a frozen network, read and write PEFT's files.
 * @packageDocumentation
 */

// methods, written by `npm run generate`
export { type LoraOptions, type LoraState, lora } from './lora.ts'
// end of methods
export { type Formats, formatOf, type PeftConfig, peftConfig, readPeftConfig } from './peft/config.ts'
export type { Field, Held, Layout, Part, PeftFormat } from './peft/format.ts'
export { formats } from './peft/formats/index.ts'
export {
  type Attached,
  type FromPeft,
  fromPeft,
  type Loaded,
  loadPeft,
  type PeftTensor,
  peftTensors,
} from './peft/load.ts'
export { type Make, nativeMethod } from './peft/native.ts'
export { peftConfigOf, type SavePeftOptions, savePeft, toPeft } from './peft/save.ts'
export { type PeftTargets, peftTargets, peftTrained } from './peft/target.ts'
