import { decodeFloats, type TensorSource } from '@weftjs/tensor/checkpoint/index'

/** all tensors of a plan, one after the other */
export const values = async (tensors: readonly TensorSource[]): Promise<Map<string, Float32Array>> => {
  const found = new Map<string, Float32Array>()
  for (const { name, dtype, data } of tensors) {
    const bytes = typeof data === 'function' ? await data() : data
    found.set(name, decodeFloats(dtype, bytes as Uint8Array).slice())
  }
  return found
}
