import type { Codec, Params, PartLayout, Tensor, Tensor2D } from '@weftjs/spec'
import { dispose, keep, tidy } from '@weftjs/tensor'
import { CheckpointError } from '@weftjs/tensor/checkpoint'
import { bytesIn } from '@weftjs/tensor/read-tensor'
import { matchNames } from '@weftjs/weight'
import type { Which } from '../quantize.ts'
import { packedWriter } from './all.ts'
import type { Names, PackedWriter, Part, WeightsToWrite, WeightToWrite } from './format.ts'
import { packMatrix } from './pack-matrix.ts'
import { mustNotLook } from './packing.ts'

export interface StreamingOptions {
  /** default: every matrix of the blocks */
  readonly at?: Which
  /** the layout in files, by its name; default: the first that holds the codec */
  readonly layout?: string
  readonly onProgress?: (done: { readonly name: string; readonly weights: number; readonly of: number }) => void
}

/** A matrix [out, in] in a file; `read` gives it to the caller to dispose. */
export interface MatrixInFile {
  readonly name: string
  /** its name in the file, and the file's, for messages */
  readonly hf: string
  readonly file: string
  readonly shape: readonly [out: number, input: number]
  read(): Promise<Tensor2D>
}

/** Packs matrices between two files: what `repackNetwork` and `repack` of @weftjs/model take. */
export interface Streaming {
  /** the matrix as it will be, which is packed when its numbers are asked for; undefined where `at` leaves it out */
  weight(matrix: MatrixInFile): Promise<(WeightToWrite & { decoded(): Promise<Tensor2D> }) | undefined>
  writer(network: WeightsToWrite, names: Names): Promise<PackedWriter | undefined>
  /** gives up the parts of the last matrix that was packed */
  dispose(): void
}

/**
 * Packs matrices on their way from file to file, one at a time, for codecs that look at no data. The sizes of parts are
 * known beforehand (`Codec.layout`), so that a file can begin with them; a matrix whose values decide them, or whose layout
 * in files begins with a value (nested scales of bitsandbytes), is packed once to see and once to write. Numbers are asked
 * for one after another, and are good until the next are.
 * @throws Error for a codec that calibrates; on the way CheckpointError that names the tensor, for a NaN or an infinity with
 * its place
 */
export const streaming = (
  codec: Codec<any>,
  { at = 'blocks.**', layout: asked, onProgress }: StreamingOptions = {},
): Streaming => {
  mustNotLook(codec, 'streaming')
  const wanted = typeof at === 'function' ? at : matchNames(at)
  let held: { readonly of: MatrixInFile; readonly parts: Params } | undefined
  let count = 0
  const release = (): void => {
    if (held) dispose(Object.values(held.parts))
    held = undefined
  }
  /** the matrix's parts; those of the one before go */
  const partsOf = async (matrix: MatrixInFile, weights: number): Promise<Params> => {
    if (held?.of === matrix) return held.parts
    release()
    const w = await matrix.read()
    try {
      const { parts } = await packMatrix(codec, w, { file: matrix.file, tensor: matrix.hf })
      held = { of: matrix, parts }
      onProgress?.({ name: matrix.name, weights, of: count })
      return parts
    } finally {
      w.dispose()
    }
  }
  return {
    weight: async (matrix) => {
      if (!wanted(matrix.name)) return undefined
      const { shape } = matrix
      const weights = ++count
      const layout = layoutOf(codec, matrix) ?? Object.entries(await partsOf(matrix, weights))
      const parts = layout.map(([key, { dtype, shape }]): [string, Part] => [
        key,
        part({ dtype, shape: shape as number[] }, async () => (await partsOf(matrix, weights))[key]!),
      ])
      return {
        ...{ shape, codec, format: codec.name, parts: Object.fromEntries(parts) },
        decoded: async () => {
          const made = await partsOf(matrix, weights)
          return tidy(() => keep(codec.decode(made, shape)))
        },
      }
    },
    writer: (network, names) => packedWriter(network, names, asked),
    dispose: release,
  }
}

/** of each part, where the shape of the matrix is enough to know @throws CheckpointError for a shape that the codec refuses */
const layoutOf = (codec: Codec<any>, { shape, hf, file }: MatrixInFile): [string, PartLayout][] | undefined => {
  try {
    const layout = Object.entries(codec.layout?.(shape) ?? { '': { dtype: 'int32', shape: [null] } as PartLayout })
    return layout.some(([, { shape }]) => shape.includes(null)) ? undefined : layout
  } catch (error) {
    throw new CheckpointError((error as Error).message, { file, tensor: hf }, { cause: error })
  }
}

/** a tensor to come; its numbers are read where they lie */
const part = (
  { dtype, shape }: { readonly dtype: string; readonly shape: readonly number[] },
  made: () => Promise<Tensor>,
): Part =>
  ({
    dtype,
    shape,
    size: shape.reduce((n, d) => n * d, 1),
    data: async () => {
      const { buffer, byteOffset, byteLength } = await bytesIn(await made())
      const view = dtype === 'int32' ? Int32Array : Float32Array
      return new view(buffer as ArrayBuffer, byteOffset, byteLength / 4)
    },
  }) as unknown as Part
