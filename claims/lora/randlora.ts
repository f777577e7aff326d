import { lora, randlora } from '@weftjs/lora'
import { contextOf, initContextOf } from '@weftjs/model'
import { adamw } from '@weftjs/optim'
import type { Adapter, Params, Rng, Site, Tensor, Tensor2D } from '@weftjs/spec'
import { add, applyUpdates, backprop, dispose, mean, mul, rng as newRng, square, sub, tidy } from '@weftjs/tensor'
import { fromMatrix, qr, toMatrix } from '@weftjs/tensor/linalg'
import { dense } from '@weftjs/weight'
import { type Claim, linears, type Recipe } from '../lab.ts'

/** 141,504 numbers: 24 bases of rank 11 for a matrix with 256 outputs and inputs or more */
export const recipe: Recipe = linears(randlora({ rank: 11 }))

const SIZE = 32
/** what is left of the squared distance from a matrix to another, when an adapter has come as near as it does in 400 steps */
const left = async (adapter: Adapter<any>, rng: Rng): Promise<number> => {
  const [w, random] = ['w', 'update'].map((k) => rng.fork(k).normal([SIZE, SIZE])) as [Tensor2D, Tensor2D]
  // the update to be found has no direction that matters more: a rotation, as large as W
  const target = add(w, mul(fromMatrix(qr(toMatrix(random)).q), Math.sqrt(SIZE)))
  const base = dense(w)
  const site: Site = { name: 'matrix', kind: 'linear', layer: 0, in: SIZE, out: SIZE, weight: base }
  const shared: Record<string, Tensor> = {}
  const start = adapter.init(
    site,
    initContextOf(site, {
      rng: rng.fork('start'),
      shared: (key, make) => {
        shared[key] ??= make(rng)
        return shared[key] as never
      },
    }),
  )!
  const context = contextOf(site, { shared, training: true })
  const loss = (p: Params) => mean(square(sub(adapter.weight!(base, p, context).dense(), target))) as never
  let best = Number.POSITIVE_INFINITY
  for (const lr of [3e-3, 1e-2, 3e-2]) {
    const transform = adamw({ lr, weightDecay: 0 })
    let params: Params = start.state
    let state = transform.init(params)
    for (let i = 0; i < 400; i++) {
      const next = tidy(() => {
        const [updates, moved] = transform.update(backprop(loss, params).grads, state, params)
        return { params: applyUpdates(params, updates), state: moved } as never
      }) as unknown as { params: Params; state: typeof state }
      if (i) dispose(Object.values(params))
      ;({ params, state } = next)
    }
    const value = tidy(() => loss(params)) as unknown as Tensor2D
    best = Math.min(best, (await value.data())[0]!)
    value.dispose()
  }
  return best
}

export const claim: Claim = {
  says: 'Where the update to be found is of full rank and no direction of it matters more, RandLoRA comes nearer than LoRA with as many numbers',
  metric: 'squared error of LoRA less ours, for a random rotation of 32: 288 numbers of ours, 256 of 2·4·32',
  margin: async (seed) => {
    const rng = newRng(seed)
    return (await left(lora({ rank: 4 }), rng)) - (await left(randlora({ rank: 4, alpha: 4 }), rng))
  },
}
