import type { Config, Weight } from '@weftjs/spec'
import { tensor1d } from '@weftjs/tensor'
import type { Checkpoint } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { bf16 } from './bf16.ts'
import { f16 } from './f16.ts'

/**
 * A matrix of the blocks that a checkpoint keeps in 16 bits, as it is there, in half the memory of float32: the `packed`
 * of `loadNetwork`. Undefined for other tensors, and for those that lie transposed in the file (GPT-2's).
 */
export const fromHalf = async (
  checkpoint: Checkpoint,
  hf: string,
  shape: readonly [number, number],
  _config: Config,
  { name, layout }: { readonly name: string; readonly layout?: string },
): Promise<Weight | undefined> => {
  if (!name.startsWith('blocks.') || layout || !checkpoint.has(hf)) return undefined
  const { dtype, shape: stored } = checkpoint.entry(hf)
  if ((dtype !== 'BF16' && dtype !== 'F16') || stored.join() !== shape.join()) return undefined
  const { data } = await checkpoint.read(hf)
  const words = new Int32Array(Math.ceil(data.byteLength / 4))
  new Uint8Array(words.buffer).set(data)
  return fromParts(dtype === 'BF16' ? bf16() : f16(), { q: tensor1d(words, 'int32') }, shape)
}
