import { prototypeHead } from '@weftjs/model'
import type { Params, Tensor } from '@weftjs/spec'
import {
  applyUpdates,
  backprop,
  dispose,
  keep,
  linear,
  logSoftmax,
  mapParams,
  mean,
  mul,
  neg,
  oneHot,
  rng,
  sum,
  tensor,
  tensor1d,
  tidy,
} from '@weftjs/tensor'
import type { Claim } from '../lab.ts'

/** a head on a frozen encoder, not a way to tune a language model */
export const recipe = null

const [N, T, D, C] = [64, 16, 12, 3] as const
/** noise but for one patch, at a random place, that tells the class */
const patches = (seed: number): { tokens: Tensor; labels: Tensor; classes: number[] } => {
  const classes = Array.from(rng(seed).fork('class').numbers(N), (u) => Math.floor(u * C))
  const where = Array.from(rng(seed).fork('place').numbers(N), (u) => Math.floor(u * T))
  const values = tidy(() => rng(seed).fork('noise').normal([N, T, D]).dataSync()) as Float32Array
  classes.forEach((c, i) => {
    values[(i * T + where[i]!) * D + c]! += 6
  })
  return { tokens: keep(tensor(values, [N, T, D])), labels: keep(tensor1d(classes, 'int32')), classes }
}

export const claim: Claim = {
  says: 'Prototypes find a class that one patch of many tells, where a linear probe on the mean of patches does not',
  metric: 'accuracy of the prototypes less that of the probe, less 0.1',
  margin: async (seed) => {
    const [train, test] = [patches(2 * seed), patches(2 * seed + 1)]
    const learn = async (start: Params, run: (p: Params, x: Tensor) => Tensor, lr: number): Promise<number> => {
      let params = start
      const loss = (p: Params) => neg(mean(sum(mul(logSoftmax(run(p, train.tokens)), oneHot(train.labels, C)), 1)))
      for (let step = 0; step < 120; step++) {
        const next = tidy(() => {
          const { grads } = backprop((p) => loss(p) as never, params)
          return mapParams(
            applyUpdates(
              params,
              mapParams(grads, (g) => mul(g, -lr)),
            ),
            (p) => keep(p),
          )
        })
        dispose(Object.values(params))
        params = next
      }
      const logits = tidy(() => run(params, test.tokens))
      const z = await logits.data()
      dispose([logits, ...Object.values(params)])
      const best = (i: number): number => [0, 1, 2].reduce((a, b) => (z[i * C + b]! > z[i * C + a]! ? b : a))
      return test.classes.filter((c, i) => best(i) === c).length / N
    }
    const head = prototypeHead(D, { classes: C, each: 4, focal: false }, rng(seed))
    const ours = await learn(head.params, (p, x) => head.run(p as typeof head.params, x).logits, 3)
    const probe = await learn(
      { w: rng(seed).fork('probe').normal([C, D], 0.1) },
      (p, x) => linear(mean(x, 1), p['w']!),
      1,
    )
    dispose([train, test].flatMap(({ tokens, labels }) => [tokens, labels]))
    return ours - probe - 0.1
  },
}
