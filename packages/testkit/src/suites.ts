import type { Adapter, Codec, Merge, Rng, Stage, Transform, Weight } from '@weftjs/spec'
import { cpu } from '@weftjs/tensor'
import { beforeAll, describe, it } from 'vitest'
import { type AdapterSuite, checkAdapter } from './adapter.ts'
import type { Check } from './check.ts'
import { type CodecSuite, checkCodec } from './codec.ts'
import { checkMerge, type MergeSuite } from './merge.ts'
import { checkStage, type StageSuite } from './stage.ts'
import { checkTransform, type TransformSuite } from './transform.ts'
import { checkWeight, type WeightSuite } from './weight.ts'

export interface SuiteOptions {
  /** chooses the backend; plain JavaScript by default */
  readonly backend?: () => Promise<unknown>
}

/** checks as one block of vitest */
export const suite = (name: string, checks: readonly Check[], { backend = cpu }: SuiteOptions = {}): void => {
  describe(name, () => {
    beforeAll(async () => {
      await backend()
    })
    for (const check of checks) it(check.name, () => check.run())
  })
}

/** Tests a linear map: `testWeight('lowRank', (rng) => lowRank(rng.normal([4, 2]), rng.normal([2, 3])))`. */
export const testWeight = (name: string, make: (rng: Rng) => Weight, options: WeightSuite & SuiteOptions = {}): void =>
  suite(name, checkWeight(make, options), options)

/** Tests an adapter on a tiny Llama, dense and packed: `testAdapter(mine({ rank: 4 }), { startsAsIdentity: true })`. */
export const testAdapter = (adapter: Adapter<any>, options: AdapterSuite & SuiteOptions = {}): void =>
  suite(adapter.name, checkAdapter(adapter, options), options)

/** Tests a storage format: `testCodec(mine(), { bits: 4.5, error: 0.1 })`. */
export const testCodec = (codec: Codec<any>, options: CodecSuite & SuiteOptions = {}): void =>
  suite(codec.name, checkCodec(codec, options), options)

/** Tests an optimizer or a part of one: `testTransform('mine', () => mine({ lr: 0.1 }))`. */
export const testTransform = (
  name: string,
  make: () => Transform<any>,
  options: TransformSuite & SuiteOptions = {},
): void => suite(name, checkTransform(make, options), options)

/** Tests a merge: `testMerge('mine', mine())`. */
export const testMerge = (name: string, merge: Merge, options: MergeSuite & SuiteOptions = {}): void =>
  suite(name, checkMerge(merge, options), options)

/** Tests a stage of a data pipeline: `testStage('mine', () => mine(), { items })`. */
export const testStage = <A, B>(name: string, make: () => Stage<A, B>, options: StageSuite<A>): void =>
  suite(name, checkStage(make, options), { backend: async () => {} })
