import { existsSync, readFileSync } from 'node:fs'
import { cpu, rng } from '@weftjs/tensor'
import { fromBytes, openSafetensors } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { architectures, attach, complete, loadNetwork } from '../src/index.ts'
import { families, models as fixtures } from './fixture.ts'

await cpu()
const supported = new Set(architectures.flatMap((a) => a.types))
const folders = families.filter((name) => existsSync(`${fixtures}${name}/generation_config.json`))

describe.each(folders)('%s', (name) => {
  const type: string = JSON.parse(readFileSync(`${fixtures}${name}/config.json`, 'utf8')).model_type
  it.skipIf(!supported.has(type))(
    supported.has(type) ? "generates transformers' ids" : `skipped: architecture '${type}' is not there yet`,
    async () => {
      const ref = await openSafetensors(fromBytes(readFileSync(`${fixtures}${name}/reference.safetensors`)))
      if (!ref.has('generated')) return expect(name).toBe('llama-sharded-bf16') // llama's weights again
      const tuned = attach(await loadNetwork(nodeFolder(`${fixtures}${name}`)), [], rng(0))
      const ints = async (key: string): Promise<number[]> => [...(await ref.ints(key))]
      const rows = (flat: readonly number[], n: number): number[][] =>
        Array.from({ length: flat.length / n }, (_, i) => flat.slice(i * n, (i + 1) * n))
      const P = ref.entry('padded_input_ids').shape[1]!
      const prompt = (await ints('generated')).slice(0, P)
      const answer = async (options: object): Promise<number[]> => [
        ...prompt,
        ...(await complete(tuned, [prompt], { maxTokens: 16, ends: [], ...options }))[0]!.ids,
      ]

      expect(await answer({})).toEqual(await ints('generated'))
      expect(await answer({ repetitionPenalty: 1.3 })).toEqual(await ints('generated_repetition'))
      expect(await answer({ ends: await ints('eos') })).toEqual(await ints('generated_eos'))

      const mask = rows(await ints('padded_mask'), P)
      const padded = rows(await ints('padded_input_ids'), P).map((r, b) => r.filter((_, t) => mask[b]![t]))
      expect(padded.some((r) => r.length < P)).toBe(true)
      const want = rows(await ints('generated_padded'), P + 16).map((r) => r.slice(P))
      // dynamic rope scaling looks at the longest row of the batch, in transformers as here: alone, a row may differ
      for (const batch of name === 'llama-dynamic-rope' ? [2] : [1, 2])
        expect((await complete(tuned, padded, { maxTokens: 16, ends: [], batch })).map((r) => r.ids)).toEqual(want)
      await ref.close()
    },
  )
})
