import { beside, metric, peak } from './harness/rows.ts'
import type { Bench, Match } from './harness/types.ts'
import { checkpoint } from './sides/checkpoint.ts'

/** codecs that both have, and ours alone */
const BESIDE = [
  { codec: 'nf4', peer: 'bitsandbytes', needs: ['bitsandbytes'] },
  { codec: 'gguf:Q8_0', peer: 'gguf, in Python', needs: ['gguf'] },
  { codec: 'gguf:Q4_0', peer: 'gguf, in Python', needs: ['gguf'] },
] as const
const ALONE = ['gguf:Q5_0', 'int4', 'hqq'] as const

export const bench: Bench = {
  question: 'quantize the 210 matrices of a checkpoint of 538 MB, from file to file; decode, and multiply within',
  matches: async () => {
    const path = await checkpoint()
    const matches = BESIDE.map(({ codec, peer, needs }): Match => {
      const row = beside(peer, 'ours', 'theirs')
      return {
        sides: {
          ours: { label: 'Weft', script: 'weft-quantize.ts', compiled: true, options: { path, codec } },
          theirs: { label: peer, script: 'quantize.py', needs, options: { path, codec } },
        },
        rounds: 3,
        warmup: 1,
        rows: [
          row(`${codec}: GB/s of float32`, metric('gbps'), 'more', { goal: 1 }),
          row(`${codec}: peak memory, MB`, peak, 'less', { goal: 4 }),
        ],
      }
    })
    const alone = ALONE.map((codec): Match => {
      const row = beside('copying memory', 'ours', 'ours')
      return {
        sides: { ours: { label: 'Weft', script: 'weft-quantize.ts', options: { path, codec, limit: true } } },
        rounds: 3,
        warmup: 1,
        rows: [row(`${codec}: GB/s of float32`, metric('gbps'), 'more', { ofTheirs: metric('copy') })],
      }
    })
    const decoded = ['nf4', 'int4', 'hqq', 'gptq', 'awq', 'gguf:Q8_0', 'gguf:Q4_0', 'gguf:Q4_K', 'gguf:Q6_K'].map(
      (codec): Match => {
        const row = beside('copying memory', 'ours', 'ours')
        return {
          sides: { ours: { label: 'Weft', script: 'weft-decode.ts', options: { codec } } },
          rounds: 3,
          warmup: 1,
          rows: [
            row(`${codec}: decode, GB/s of float32`, metric('decode'), 'more', { ofTheirs: metric('copy') }),
            row(`${codec}: product with one row, GB/s of float32 that it stands for`, metric('product'), 'more', {
              ofTheirs: metric('copy'),
            }),
          ],
        }
      },
    )
    return [...matches, ...alone, ...decoded]
  },
}
