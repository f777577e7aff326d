export { type LoraOptions, type LoraState, lora } from './lora.ts'
