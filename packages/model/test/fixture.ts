import { readdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Network } from '@weftjs/spec'
import { type Tensor, tensor } from '@weftjs/tensor'
import { type Checkpoint, fromBytes, openSafetensors } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { loadNetwork, type TransformerConfig } from '../src/index.ts'

export const models: string = new URL('../../testkit/fixtures/models/', import.meta.url).pathname

/** the folders that are not quantized */
export const families: readonly string[] = readdirSync(models)
  .sort()
  .filter((name) => !readFileSync(`${models}${name}/config.json`, 'utf8').includes('quantization_config'))

/** a tiny model from transformers, and what transformers says about it */
export const fixture = async (
  name: string,
): Promise<{ network: Network<TransformerConfig>; reference: Checkpoint; int(name: string): Promise<Tensor> }> => {
  const reference = await openSafetensors(fromBytes(await readFile(`${models}${name}/reference.safetensors`)))
  return {
    network: await loadNetwork(nodeFolder(`${models}${name}`)),
    reference,
    int: async (key) => tensor(await reference.ints(key), reference.entry(key).shape as number[], 'int32'),
  }
}

/** max |a − b| */
export const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) throw new Error(`${a.length} numbers and ${b.length}`)
  let worst = 0
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!)
    if (!(d <= worst)) worst = d // NaN too
  }
  return worst
}
export const largest = (a: ArrayLike<number>): number => distance(a, new Float32Array(a.length))
