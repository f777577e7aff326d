/** The benchmark of one kernel alone: beside plain ops or stock tfjs on the same backend, and beside the machine's limit. */
import { softwareVulkan } from '../../tools/swiftshader.mjs'
import { beside, metric } from '../harness/rows.ts'
import type { Bench, Match, Peer, Side } from '../harness/types.ts'
import { kernelCases } from './kernels.ts'

/** another opponent than our own plain ops */
export interface Rival {
  readonly peer: string
  readonly script: Side['script']
  readonly needs?: readonly Peer[]
}

const match = (kernel: string, backend: 'wasm' | 'webgpu', software: boolean, rival?: Rival): Match => {
  const gpu = backend === 'webgpu'
  const options = { kernel, backend, software }
  const peer = `${rival?.peer ?? 'plain ops'}, ${backend}`
  const cases = kernelCases[kernel]!(gpu && software)
  const row = beside(peer, 'ours', 'theirs')
  const limit = beside(`limit, ${backend}`, 'ours', 'ours')
  return {
    sides: {
      ours: { label: `Weft, ${backend}`, script: 'weft-kernel.ts', options: { ...options, plain: false }, gpu },
      theirs: {
        ...{ label: peer, script: rival?.script ?? 'weft-kernel.ts', needs: rival?.needs ?? [], gpu },
        options: { ...options, plain: true },
      },
    },
    rounds: 5,
    warmup: gpu ? 0 : 1,
    rows: cases.flatMap((c, i) => [
      row(`ms, ${c.name}`, metric(`ms${i}`), 'less', { goal: 1 }),
      c.flop
        ? limit(`GFLOP/s, ${c.name}`, metric(`gflops${i}`), 'more', { ofTheirs: metric('peak') })
        : limit(`GB/s, ${c.name}`, metric(`gb${i}`), 'more', { ofTheirs: metric('bandwidth') }),
    ]),
  }
}

export const kernelBench = (kernel: string, what: string, rival?: Rival): Bench => ({
  question: `${what}; the limit is a product of 2048x2048 matrices on the CPU, fused multiply-adds on a GPU, or a large copy`,
  matches: async () => {
    const software = Object.keys(await softwareVulkan()).length > 0
    return [match(kernel, 'wasm', software, rival), match(kernel, 'webgpu', software, rival)]
  },
})
