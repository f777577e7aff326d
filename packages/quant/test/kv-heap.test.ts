import { cpu, rng, tensor, wasm } from '@weftjs/tensor'
import { expect, it } from 'vitest'
import { decodeGroups, encodeGroups, type Groups, type KvBits } from '../src/kv/groups.ts'

/** texts, heads, width, tokens, count: fours of channels that lie in bytes and such that do not; the last in several threads */
const SIZES = [
  [2, 2, 10, 4, 3],
  [1, 3, 64, 32, 2],
  [2, 1, 7, 3, 2],
  [1, 2, 12, 1, 5],
  [1, 1, 3, 1, 1],
  [3, 4, 64, 32, 12],
] as const
const KINDS: readonly ((u: number, i: number) => number)[] = [
  (u) => 4 * u - 2,
  (u, i) => (i % 2 ? Math.round(4 * u) / 4 : i % 3 ? 0 : -0),
  (u, i) => (u - 0.5) * 10 ** ((i % 30) - 12),
]

/** the bits of codes, scales and what comes back */
const results = (): Map<string, Buffer> => {
  const found = new Map<string, Buffer>()
  for (const bits of [2, 4, 8, 16, 32] as KvBits[])
    for (const [texts, heads, width, tokens, count] of SIZES)
      for (const channels of [0, 3, 4, 32])
        for (const [kind, of] of KINDS.entries()) {
          if (kind && count === 12) continue
          const groups: Groups = { bits, texts, heads, width, tokens, count, channels: Math.min(channels, width) }
          const noise = rng(bits).numbers(texts * heads * count * tokens * width)
          const x = tensor(Float32Array.from(noise, of), [texts, heads, count * tokens, width])
          const coded = encodeGroups(x, groups)
          const back = decodeGroups(coded, groups)
          for (const [name, t] of Object.entries({ ...coded, back })) {
            const { buffer, byteOffset, byteLength } = t.dataSync()
            found.set(
              `${JSON.stringify(groups)} ${kind} ${name}`,
              Buffer.from(buffer.slice(byteOffset, byteOffset + byteLength)),
            )
            t.dispose()
          }
          x.dispose()
        }
  return found
}

it('keys and values are coded on the heap bit for bit as by the loops', async () => {
  await cpu()
  const wanted = results()
  await wasm()
  const found = results()
  expect(found.size).toBe(wanted.size)
  for (const [key, want] of wanted) expect(Buffer.compare(found.get(key)!, want), key).toBe(0)
})
