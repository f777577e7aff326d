/**
 * Conformance suites for Weft's contracts: one call in a vitest file tests a method.
 * @packageDocumentation
 */
export { type AdapterSuite, checkAdapter } from './adapter.ts'
export { type Check, type Failure, failures } from './check.ts'
export { type CodecSuite, checkCodec } from './codec.ts'
export { factories, type MethodFile } from './listing.ts'
export { checkMerge, type MergeSuite } from './merge.ts'
export { checkStage, type StageSuite } from './stage.ts'
export {
  type SuiteOptions,
  suite,
  testAdapter,
  testCodec,
  testMerge,
  testStage,
  testTransform,
  testWeight,
} from './suites.ts'
export { type TinyLlamaOptions, tinyLlama } from './tiny-llama.ts'
export { toyCodec } from './toy-codec.ts'
export { checkTransform, type TransformSuite } from './transform.ts'
export { checkWeight, type WeightSuite } from './weight.ts'
