import type { Codec, Config, Tensor, Weight } from '@weftjs/spec'
import type { Checkpoint, TensorSource } from '@weftjs/tensor/checkpoint'

/** A part as a writer needs it: a tensor, or what is to become one when its numbers are asked for. */
export type Part = Pick<Tensor, 'dtype' | 'shape' | 'size' | 'data'>
/** A matrix as a writer sees it: a `Weight`, or one that is packed when its numbers are asked for; dense without a codec. */
export interface WeightToWrite {
  readonly shape: readonly [out: number, input: number]
  readonly format?: string
  readonly codec?: Codec<any>
  readonly parts: Readonly<Record<string, Part>>
}
/** what a writer looks at of a network, whatever else it has */
export interface WeightsToWrite {
  readonly config?: object
  readonly vectors?: object
  readonly weights: Readonly<Record<string, WeightToWrite>>
}

/** How the weights of a network are written: the `packed` of `saveNetwork`. */
export interface PackedWriter {
  /** the tensors of one weight, `hf` being `model.layers.0.self_attn.q_proj.weight`; undefined: write it dense */
  tensors(hf: string, weight: WeightToWrite): readonly TensorSource[] | undefined
  /** goes into config.json */
  readonly config: Config
}
/** which of the checkpoint's names each weight has: `[...namesOf(network.config)]` */
export type Names = Iterable<{ readonly hf: string; readonly name: string }>

/** A layout of packed weights in a checkpoint that other tools write and read: one file of this folder each. */
export interface PackedFormat {
  /** `quant_method` in config.json's `quantization_config` */
  readonly name: string
  /** whether weights of this codec have a place in it */
  holds(codec: Codec<any>): boolean
  /**
   * A weight [out, in] of a checkpoint, its parts as they are there; undefined where the tensor is an ordinary one.
   * @throws CheckpointError that names the tensor where parts are missing, malformed, or not of the shape asked for
   */
  read(
    checkpoint: Checkpoint,
    hf: string,
    shape: readonly [number, number],
    config: Config,
  ): Promise<Weight | undefined>
  /** @throws Error where nothing of the network has a place in it, or what is packed has none */
  writer(network: WeightsToWrite, names: Names): Promise<PackedWriter>
}
