import { cpu, rng, slice, type Tensor } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { expect, it } from 'vitest'
import { decodeGroups, encodeGroups, type Groups, type KvBits } from '../src/kv/groups.ts'
import { kvStaircase } from '../src/kv/staircase.ts'

type Found = Record<string, ArrayLike<number>>

/** codes, scales and numbers of every width, and a staircase's keys and values */
const results = async (): Promise<Found> => {
  const found: Found = {}
  for (const bits of [2, 4, 8, 16, 32] as KvBits[])
    for (const channels of [0, 4]) {
      const groups: Groups = { bits, texts: 2, heads: 2, width: 10, tokens: 4, count: 3, channels }
      const coded = encodeGroups(rng(bits).normal([2, 2, 12, 10]), groups)
      found[`${bits} ${channels} grid`] = await coded.grid.data()
      found[`${bits} ${channels} codes`] = await coded.q.data()
      found[`${bits} ${channels} numbers`] = await decodeGroups(coded, groups).data()
    }
  const store = kvStaircase({ window: 4, group: 4, steps: [{ bits: 8, until: 12 }, { bits: 4 }] })(40)
  const [k, v] = [rng(1).normal([3, 2, 33, 8]), rng(2).normal([3, 2, 33, 8])]
  const cut = (x: Tensor, from: number, n: number): Tensor => slice(x, [0, 0, from, 0], [3, 2, n, 8])
  store.extend(cut(k, 0, 20), cut(v, 0, 20))
  for (let t = 20; t < 32; t++) store.extend(cut(k, t, 1), cut(v, t, 1))
  store.select([2, 0])
  const last = (x: Tensor): Tensor => slice(x, [0, 0, 32, 0], [2, 2, 1, 8])
  const got = store.extend(last(k), last(v))
  found['staircase keys'] = await got.k.data()
  found['staircase values'] = await got.v.data()
  return found
}

// `npm test` brings a software adapter where there is no GPU
it.skipIf(!(await hasGpuFiles()))('a quantized cache on WebGPU holds what it holds on the cpu', async () => {
  await cpu()
  const wanted = await results()
  await nodeWebgpu()
  const found = await results()
  for (const [key, want] of Object.entries(wanted)) {
    const got = found[key]!
    expect(got.length, key).toBe(want.length)
    const worst = Math.max(...Array.from(want, (w, i) => Math.abs(w - got[i]!)))
    // words are whole: one code that differs would be off by far more
    expect(worst, key).toBeLessThanOrEqual(/codes|grid/.test(key) ? 0 : 1e-5)
  }
})
