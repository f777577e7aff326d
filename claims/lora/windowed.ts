import { lora } from '@weftjs/lora/lora'
import { attach, inputsOf, nextToken, windowed } from '@weftjs/model'
import { backprop, dispose, peakBytes, rng, tidy } from '@weftjs/tensor'
import { batchOf, type Claim, LINEARS } from '../lab.ts'

/** another way to the same gradients: nothing to compare */
export const recipe = null

export const claim: Claim = {
  says: 'Windows of 32 tokens give the gradients of a text of 256 with less than a third of the memory beside the network',
  metric: 'a third less the ratio of the peaks; −1 where a gradient is off by 1e-4 of its largest',
  margin: async (seed, lab) => {
    const row = [0, 1, 2, 3].flatMap((i) => [...lab.task.batch(seed, i).ids.slice(0, 64)])
    const batch = batchOf([[...row, row[0]!]])
    const tuned = attach(lab.network, [{ adapter: lora({ rank: 8 }), at: LINEARS }], rng(seed))
    const peak = peakBytes()
    const over = async <T>(f: () => Promise<T> | T): Promise<[T, number]> => {
      peak.reset()
      const { now } = peak
      const value = await f()
      return [value, peak.bytes - now]
    }
    const [whole, most] = await over(() =>
      tidy(() => backprop((p) => nextToken(tuned.run(p, inputsOf(batch)), batch), tuned.params)),
    )
    const [parts, less] = await over(() => windowed(tuned, tuned.params, batch, { window: 32 }))
    let off = 0
    for (const [name, g] of Object.entries(whole.grads)) {
      const [a, b] = [await g.data<'float32'>(), await parts.grads[name]!.data<'float32'>()]
      const largest = a.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-12)
      off = Math.max(off, a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0) / largest)
    }
    dispose([
      whole.loss,
      parts.loss,
      ...Object.values(whole.grads),
      ...Object.values(parts.grads),
      ...Object.values(tuned.params),
    ])
    return off < 1e-4 ? 1 / 3 - less / most : -1
  },
}
