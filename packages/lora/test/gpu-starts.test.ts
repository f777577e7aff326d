import { attach, attachAsync, calibrate, inputsOf, nextToken, revising } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Adapter, Network } from '@weftjs/spec'
import { rng, type Tensor, tensor, wasm } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import {
  adalora,
  corda,
  dsee,
  eva,
  increLora,
  kasa,
  loftq,
  loldu,
  loraGa,
  loraGgpo,
  olora,
  pissa,
  sara,
  spiel,
  spt,
  svfit,
} from '../src/index.ts'
import { batchAt, distance } from './fixture.ts'

const AT = 'blocks.*.{attn,mlp}.{q,up}'
const batches = Array.from({ length: 5 }, (_, i) => batchAt(i))
/** starts that decompose or choose by numbers, and methods that revise themselves */
const CASES: Readonly<Record<string, (original: Network<any>) => Adapter<any>>> = {
  pissa: () => pissa({ rank: 2 }),
  olora: () => olora({ rank: 2 }),
  corda: () => corda({ rank: 2 }),
  eva: () => eva({ rank: 2 }),
  svfit: () => svfit({ rank: 2 }),
  kasa: () => kasa({ rank: 2 }),
  loldu: () => loldu({ rank: 2 }),
  'lora-ga': () => loraGa({ rank: 2 }),
  loftq: (original) => loftq({ rank: 2 }, original),
  spt: () => spt({ rank: 1, top: 100, dropout: 0 }),
  sara: () => sara({ share: 0.2, lambda: 0 }),
  dsee: () => dsee({ rank: 2, entries: 8 }),
  adalora: () => adalora({ start: 3, rank: 2, warm: 1, final: 1 }),
  'incre-lora': () => increLora({ target: 2, top: 2, every: 1, warm: 0 }),
  spiel: () => spiel({ density: 0.1, every: 2, window: 1, growth: 'ma' }),
  'lora-ggpo': () => loraGgpo({ rank: 2, sigma: 0 }),
}
/** on the device, and nowhere else: the network has run */
const used = async (network: ReturnType<typeof tinyLlama>): Promise<ReturnType<typeof tinyLlama>> => {
  await attach(network, [], rng(0))
    .forward({}, { ids: tensor([1, 2, 3], [1, 3], 'int32') })
    .logits.data()
  return network
}
const curve = async (make: (typeof CASES)[string], few: boolean): Promise<number[]> => {
  const [original, network] = [await used(tinyLlama(rng(1))), await used(tinyLlama(rng(1), few ? FEW : {}))]
  const adapter = make(original)
  const seen = adapter.calibrates ? await calibrate(network, batches, { statistics: adapter.calibrates, at: AT }) : {}
  const reads = Object.values(original.weights).flatMap((w): Tensor[] => Object.values(w.parts))
  const tuned = await attachAsync(network, [{ adapter, at: AT }], rng(2), { seen, reads })
  const live = revising(tuned, { steps: batches.length })
  const losses: number[] = []
  for await (const { loss } of train({
    params: tuned.params,
    data: batches,
    transform: adamw({ lr: 1e-3 }),
    loss: (p, b, { rng }) => nextToken(live.run(p, inputsOf(b), { training: true, rng }), b),
    ...(live.active && { revise: live.revise }),
  }))
    losses.push(loss)
  return losses
}
const FEW = { keep: (w: Parameters<typeof packed>[1]) => packed(toyCodec(), w) }

describe.skipIf(!(await hasGpuFiles()))('a GPU that nobody reads without waiting', () => {
  it.each(Object.keys(CASES).flatMap((name) => [[name, 'dense'] as const, [name, 'packed'] as const]))(
    '%s starts and trains on a %s base as it does on the heap',
    async (name, base) => {
      const make = CASES[name]!
      await wasm()
      const want = await curve(make, base === 'packed')
      await nodeWebgpu()
      expect(distance(await curve(make, base === 'packed'), want)).toBeLessThan(1e-3)
    },
  )

  it('what reads within the pass says where, and what to take', async () => {
    await nodeWebgpu()
    const fails = (adapter: Adapter<any>): Promise<number[]> => curve(() => adapter, false)
    await expect(fails(spiel({ density: 0.1, every: 2, window: 1 }))).rejects.toThrow(
      "blocks.0.attn.q: spiel reads gradients as they are computed, and a GPU outside of a browser is not read so; take growth 'ma'",
    )
    await expect(fails(sara({ share: 0.2, above: 8 }))).rejects.toThrow('blocks.0.attn.q: the norm of sara is taken by')
    const network = await used(tinyLlama(rng(1)))
    expect(() => attach(network, [{ adapter: pissa({ rank: 2 }), at: AT }], rng(2))).toThrow(
      'toMatrix: [16,16] cannot be read at once on this backend; await toMatrixAsync(t), or take attachAsync',
    )
  })
})
