import { type Tensor, type Tensor2D, tensor } from '@weftjs/tensor'
import { type Checkpoint, openSafetensors, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'

const folder = new URL('../../testkit/fixtures/quant/', import.meta.url).pathname

export const fixture = async (name: string): Promise<Checkpoint> =>
  openSafetensors(await fromFile(`${folder}${name}.safetensors`))

export const floats = async <T extends Tensor>(from: Checkpoint, name: string): Promise<T> =>
  tensor(await from.floats(name), from.entry(name).shape as number[]) as T

/** what a library wrote, what it makes of that, and the matrix that it was given */
export const besideLibrary = async (name: string): Promise<{ file: Checkpoint; expected: Checkpoint; w: Tensor2D }> => {
  const [file, expected] = [await fixture(name), await fixture(`${name}.expected`)]
  return { file, expected, w: await floats<Tensor2D>(expected, 'input') }
}

/** the bytes of a tensor that is to be written */
export const bytesOf = async ({ data }: TensorSource): Promise<Buffer> =>
  Buffer.from((typeof data === 'function' ? await data() : data) as Uint8Array)

/** the bytes of packed words, as many as there are codes for */
export const bytes = (words: Tensor, n: number): Uint8Array => {
  const { buffer, byteOffset } = words.dataSync()
  return new Uint8Array(buffer, byteOffset, n)
}
