import { type Tensor, tensor } from '@weftjs/tensor'
import { type Checkpoint, openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'

const folder = new URL('../../testkit/fixtures/quant/', import.meta.url).pathname

export const fixture = async (name: string): Promise<Checkpoint> =>
  openSafetensors(await fromFile(`${folder}${name}.safetensors`))

export const floats = async <T extends Tensor>(from: Checkpoint, name: string): Promise<T> =>
  tensor(await from.floats(name), from.entry(name).shape as number[]) as T

/** the bytes of packed words, as many as there are codes for */
export const bytes = (words: Tensor, n: number): Uint8Array => {
  const { buffer, byteOffset } = words.dataSync()
  return new Uint8Array(buffer, byteOffset, n)
}
