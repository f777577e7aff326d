/** One kernel of ours alone, or its plain ops on the same backend, and the limits of the machine beside. */
import { kernels, matMul, tensor, tidy, wasm } from '@weftjs/tensor'
import { nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { type Case, kernelCases } from './kernels.ts'
import { copyBandwidth, gpuLimits, peakOf } from './limits.ts'
import { callsFor, perCall } from './repeat.ts'
import { serve } from './serve.ts'
import { valuesOf } from './shape.ts'

interface Options {
  readonly kernel: string
  readonly backend: 'wasm' | 'webgpu'
  readonly plain: boolean
  readonly software: boolean
}

await serve(async ({ kernel, backend, plain, software }: Options) => {
  const gpu = backend === 'webgpu'
  const { device } = gpu ? await nodeWebgpu() : await wasm()
  const cases: { run: ReturnType<Case['make']>; calls: number; c: Case }[] = []
  for (const c of kernelCases[kernel]!(gpu && software)) {
    kernels.plain = plain && !c.ownPlain
    const run = c.make(plain)
    cases.push({ run, calls: await callsFor(run, gpu), c })
  }
  const n = 2048
  const square = gpu ? undefined : tensor(valuesOf('square', [n, n]), [n, n])
  const limits = gpu ? await gpuLimits(software) : undefined
  const unit = async (): Promise<Record<string, number>> => {
    const found: Record<string, number> = {}
    for (const [i, { run, calls, c }] of cases.entries()) {
      const ms = await perCall(run, gpu, calls)
      found[`ms${i}`] = ms
      if (c.flop) found[`gflops${i}`] = c.flop / ms / 1e6
      if (c.bytes) found[`gb${i}`] = c.bytes / ms / 1e6
    }
    // the product of large matrices is never the plain one: it is the BLAS, or the best there is without
    const peak = limits?.gflops ?? peakOf(n, () => tidy(() => void matMul(square!, square!)))
    return { ...found, peak, bandwidth: limits?.bandwidth ?? copyBandwidth() }
  }
  return { facts: { device, ops: plain ? 'plain' : 'fused' }, unit }
})
