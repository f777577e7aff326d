/** How Weft's adapters are trained and written before the real PEFT reads them. */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { savePeft } from '@weftjs/lora'
import { loadNetwork, nextToken, revising, type TransformerConfig, type Tuned } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Batch, Network, Params, Rng } from '@weftjs/spec'
import { rng, tensor } from '@weftjs/tensor'
import type { Sink } from '@weftjs/tensor/checkpoint'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'

export const fixtures: string = new URL('../../packages/testkit/fixtures/', import.meta.url).pathname

/** the names that are asked for, or all */
export const wanted = (all: object): string[] => (process.argv.length > 2 ? process.argv.slice(2) : Object.keys(all))

export const baseOf = (name: string): Promise<Network<TransformerConfig>> =>
  loadNetwork(nodeFolder(`${fixtures}models/${name}`))

/** six batches of two random rows of ten tokens, these among the first row's; the first four ids of a vocabulary are special */
export const batches = (vocabulary: number, among: readonly number[] = []): Batch[] =>
  Array.from({ length: 6 }, (_, n) => {
    const [B, T] = [2, 10]
    const ids = Int32Array.from(rng(100 + n).numbers(B * T), (u) => 4 + Math.floor(u * (vocabulary - 4)))
    for (const [i, id] of among.entries()) ids[3 + i] = id
    return {
      shape: [B, T],
      ids,
      targets: ids.map((_, i) => (i % T === T - 1 ? -100 : ids[i + 1]!)),
      positions: ids.map((_, i) => i % T),
      segments: new Int32Array(B * T).fill(1),
    }
  })

type Save = (sink: (file: string) => Promise<Sink>, tuned: Tuned, params: Params) => Promise<unknown>

/** Trains on the batches, a step each, and writes peft/from-weft-NAME. */
export const learn = async (
  name: string,
  tuned: Tuned,
  {
    base,
    lr,
    data = batches(tuned.network.config.vocabulary),
    inputs = (b) => ({ ids: tensor(b.ids, [...b.shape], 'int32') }),
    noise,
    save = (sink, now, params) => savePeft(sink, now, params, { base }),
  }: { base: string; lr: number; data?: Batch[]; inputs?: (b: Batch) => Params; noise?: Rng; save?: Save },
): Promise<void> => {
  const live = revising(tuned, { steps: data.length, seed: 1 })
  const losses: number[] = []
  const sink = async (file: string): Promise<Sink> => {
    const path = `${fixtures}peft/from-weft-${name}/${file}`
    await mkdir(dirname(path), { recursive: true })
    return fileSink(path)
  }
  for await (const { step, loss, params } of train({
    params: tuned.params,
    data,
    transform: adamw({ lr, weightDecay: 0 }),
    loss: (p, b) => nextToken(live.run(p, inputs(b), { training: true, ...(noise && { rng: noise }) }), b),
    ...(live.active && { revise: live.revise }),
  })) {
    losses.push(loss)
    if (step === data.length) await save(sink, live.tuned, params)
  }
  console.log(name, 'on', base, losses.map((l) => l.toFixed(3)).join(' '))
}
