import { readFile } from 'node:fs/promises'
import { nextToken } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, cosine, sgd, train } from '@weftjs/optim'
import type { Batch } from '@weftjs/spec'
import { backprop, cpu, globalNorm, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { distance, fixtures, open, peftFolder, safetensors } from './fixture.ts'

await cpu()

interface Curve {
  readonly optimizer: 'adamw' | 'sgd'
  readonly rate: number
  readonly weight_decay: number
  readonly momentum: number | null
  readonly schedule: 'cosine' | 'constant'
  readonly warmup: number
  readonly steps: number
  readonly clip: number | null
}

const CURVES = ['adamw-cosine', 'adamw-cosine-clip', 'adamw-constant-decay', 'sgd-momentum']

describe.each(CURVES)('%s', (name) => {
  it("twenty steps follow PEFT's losses, and end in its adapter", async () => {
    const curve = JSON.parse(await readFile(`${fixtures}peft/curve/${name}.json`, 'utf8')) as Curve
    const reference = await safetensors(`peft/curve/${name}.safetensors`)
    const [N, B, T] = reference.entry('input_ids').shape as [number, number, number]
    const ids = await reference.ints('input_ids')
    const data = Array.from({ length: N }, (_, n): Batch => {
      const row = ids.slice(n * B * T, (n + 1) * B * T)
      return {
        shape: [B, T],
        ids: row,
        targets: row.map((_, i) => (i % T === T - 1 ? -100 : row[i + 1]!)),
        positions: row.map((_, i) => i % T),
        segments: new Int32Array(B * T).fill(1),
      }
    })
    const { tuned, params } = await open(peftFolder('curve/start'), 'llama3')
    const lr = curve.schedule === 'cosine' ? cosine(curve.rate, curve) : curve.rate
    const rates = await reference.floats('rates')
    if (typeof lr === 'function')
      expect(
        distance(
          Array.from(rates, (_, i) => lr(i)),
          rates,
        ),
      ).toBeLessThan(1e-8)
    const step =
      curve.optimizer === 'adamw'
        ? adamw({ lr, weightDecay: curve.weight_decay })
        : sgd({ lr, momentum: curve.momentum!, weightDecay: curve.weight_decay })
    const transform = curve.clip === null ? step : chain(clipByGlobalNorm(curve.clip), step)
    const loss = (p: typeof params, batch: Batch): ReturnType<typeof nextToken> =>
      nextToken(tuned.run(p, { ids: tensor(batch.ids, [B, T], 'int32') }, { training: true }), batch)

    const norms = await reference.floats('grad_norms')
    const first = await globalNorm(backprop((p) => loss(p, data[0]!), params).grads).data()
    expect(Math.abs(first[0]! - norms[0]!) / norms[0]!).toBeLessThan(1e-3)

    const losses: number[] = []
    let end: Record<string, Float32Array> = {}
    for await (const { loss: value, params: now, step: n } of train({ params, data, loss, transform })) {
      losses.push(value)
      if (n === curve.steps)
        end = Object.fromEntries(
          await Promise.all(Object.entries(now).map(async ([k, t]) => [k, (await t.data()) as Float32Array] as const)),
        )
    }
    const gap = distance(losses, await reference.floats('losses'))
    expect(gap).toBeLessThan(1e-3)
    expect(losses.at(-1)!).toBeLessThan(losses[0]!)
    const { params: theirs } = await open(peftFolder(`curve/${name}-end`), 'llama3')
    for (const [key, t] of Object.entries(theirs)) expect(distance(end[key]!, await t.data()), key).toBeLessThan(5e-3)
  })
})
