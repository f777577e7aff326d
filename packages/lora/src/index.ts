/**
 * Parameter-efficient tuning: train a few numbers beside a frozen network, read and write PEFT's files.
 * @packageDocumentation
 */

// methods, written by `npm run generate`

export { type AdaloraOptions, type AdaloraState, adalora } from './adalora.ts'
export { type AloraOptions, type AloraState, alora } from './alora.ts'
export { type ApetOptions, type ApetState, apet } from './apet.ts'
export { type BitfitOptions, type BitfitState, bitfit } from './bitfit.ts'
export { type BoftOptions, type BoftState, boft } from './boft.ts'
export { type BoneOptions, type BoneState, bone } from './bone.ts'
export { type C3aOptions, type C3aState, c3a } from './c3a.ts'
export { type CompacterOptions, type CompacterState, compacter } from './compacter.ts'
export { type CordaOptions, type CordaState, corda } from './corda.ts'
export { type DeloraOptions, type DeloraState, delora } from './delora.ts'
export { type DidOptions, type DidState, did } from './did.ts'
export { type DoraOptions, type DoraState, dora } from './dora.ts'
export { type DseeOptions, type DseeState, dsee } from './dsee.ts'
export { type EvaOptions, type EvaState, eva } from './eva.ts'
export { type ExpertLoraOptions, type ExpertLoraState, expertLora } from './expert-lora.ts'
export { type FloraOptions, type FloraState, flora } from './flora.ts'
export { type FourierftOptions, type FourierftState, fourierft } from './fourierft.ts'
export { type GraloraOptions, type GraloraState, gralora } from './gralora.ts'
export { type HiraOptions, type HiraState, hira } from './hira.ts'
export { type HraOptions, type HraState, hra } from './hra.ts'
export { type HydraOptions, type HydraState, hydra } from './hydra.ts'
export { type Ia3Options, type Ia3State, ia3 } from './ia3.ts'
export { type IaaOptions, type IaaState, iaa } from './iaa.ts'
export { type IncreLoraOptions, type IncreLoraState, increLora } from './incre-lora.ts'
export { type KasaOptions, type KasaState, kasa } from './kasa.ts'
export { type LlavaMoleOptions, type LlavaMoleState, llavaMole } from './llava-mole.ts'
export { type LnTuningState, lnTuning } from './ln-tuning.ts'
export { type LoftqOptions, type LoftqState, loftq } from './loftq.ts'
export { type LohaOptions, type LohaState, loha } from './loha.ts'
export { type LokrOptions, type LokrState, lokr } from './lokr.ts'
export { type LolduOptions, type LolduState, loldu } from './loldu.ts'
export { type LoraOptions, type LoraState, lora } from './lora.ts'
export { type LoraGaOptions, type LoraGaState, loraGa } from './lora-ga.ts'
export { type LoraGgpoOptions, type LoraGgpoState, loraGgpo } from './lora-ggpo.ts'
export { type LtSftOptions, type LtSftState, ltSft } from './lt-sft.ts'
export { type MamOptions, type MamState, mam } from './mam.ts'
export { type MissOptions, type MissState, miss } from './miss.ts'
export { type MixdaOptions, type MixdaState, mixda } from './mixda.ts'
export { type MolaOptions, type MolaState, mola } from './mola.ts'
export { type MosaOptions, type MosaState, mosa } from './mosa.ts'
export { type MtloraOptions, type MtloraState, mtlora } from './mtlora.ts'
export { type OftOptions, type OftState, oft } from './oft.ts'
export { type OloraOptions, type OloraState, olora } from './olora.ts'
export { type ParallelOptions, type ParallelState, parallel } from './parallel.ts'
export { type PissaOptions, type PissaState, pissa } from './pissa.ts'
export { type PivotalOptions, type PivotalState, pivotal } from './pivotal.ts'
export { type PolyOptions, type PolyState, poly } from './poly.ts'
export { type PolyhistorOptions, type PolyhistorState, polyhistor } from './polyhistor.ts'
export { type PrefixOptions, type PrefixState, prefix } from './prefix.ts'
export { type QaLoraOptions, type QaLoraState, qaLora } from './qa-lora.ts'
export { type QstOptions, type QstState, qst } from './qst.ts'
export { type RandloraOptions, type RandloraState, randlora } from './randlora.ts'
export { type RoadOptions, type RoadState, road } from './road.ts'
export { type RsloraOptions, type RsloraState, rslora } from './rslora.ts'
export { type S2ftOptions, type S2ftState, s2ft } from './s2ft.ts'
export { type SaidOptions, type SaidState, said } from './said.ts'
export { type SaraOptions, type SaraState, sara } from './sara.ts'
export { type SeriesOptions, type SeriesState, series } from './series.ts'
export { type ShiraOptions, type ShiraState, shira } from './shira.ts'
export { type SpielOptions, type SpielState, spiel } from './spiel.ts'
export { type SptOptions, type SptPlan, type SptState, spt } from './spt.ts'
export { type SsfOptions, type SsfState, ssf } from './ssf.ts'
export { type SvfitOptions, type SvfitState, svfit } from './svfit.ts'
export { type TrainableTokensOptions, type TrainableTokensState, trainableTokens } from './trainable-tokens.ts'
export { type VbLoraOptions, type VbLoraState, vbLora } from './vb-lora.ts'
export { type VeraOptions, type VeraState, vera } from './vera.ts'
export { type Granularity, type VlPetOptions, type VlPetState, vlPet } from './vl-pet.ts'
export { type XLoraOptions, type XLoraState, xLora } from './x-lora.ts'

// end of methods

export { type AsPlainLoraOptions, asPlainLora } from './operations/as-plain-lora.ts'
export { type Combination, type CombineOptions, combinations, combine } from './operations/combine.ts'
export { compress, compressDense, rankFor, type Size } from './operations/compress.ts'
export {
  type Chosen,
  type Delta,
  deltasOf,
  type ReadyLora,
  readyLora,
  type Standing,
  scaleOf,
  stacked,
} from './operations/factors.ts'
export { type HotSwapOptions, hotSwap } from './operations/hot-swap.ts'
export { type OnOwnBase, onOwnBase } from './operations/on-own-base.ts'
export {
  type Extracted,
  type ExtractOptions,
  extractLora,
  type ToLoraOptions,
  toLora,
} from './operations/to-lora.ts'
export { peftBase, replicationOf, type Surgeries } from './peft/base.ts'
export { type Formats, formatOf, type PeftConfig, peftConfig, readPeftConfig } from './peft/config.ts'
export type { Field, Folders, Held, Layout, Part, PeftFormat } from './peft/format.ts'
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
export { adapterNames, namedAdapter, withAdapters } from './peft/named.ts'
export { PEFT_CONFIG, PEFT_PREFIX, PEFT_STEM, PEFT_TENSORS } from './peft/names.ts'
export { type Make, nativeMethod } from './peft/native.ts'
export { peftConfigOf, type SavePeftOptions, savePeft, toPeft } from './peft/save.ts'
export { type PeftTargets, peftTargets, peftTrained } from './peft/target.ts'
