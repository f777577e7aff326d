import type { Network, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, broadcastTo, concat, dispose, div, keep, mean, mul, ones, reshape, sub, tidy } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import type { Architecture, Place } from './awq-places.ts'

/** numbers of each head, the mean over its copies: [heads·repeat·S] → [heads·S] */
export const perHead = (x: Tensor, { repeat, headWidth }: Place): Tensor =>
  repeat === 1 ? x : reshape(mean(reshape(x, [-1, repeat, headWidth]), 1), [-1])
/** the inverse: each head's numbers for all its copies */
export const forCopies = (s: Tensor, { repeat, headWidth }: Place): Tensor => {
  if (repeat === 1) return s
  const heads = s.size / headWidth
  return reshape(broadcastTo(reshape(s, [heads, 1, headWidth]), [heads, repeat, headWidth]), [-1])
}

export interface Folding<N> {
  /** multiplies what reads by s [inputs of the fold], and divides what is before */
  fold(place: Place, s: Tensor): void
  /** with what was folded so far; all else is the original's */
  network(): N
  dispose(): void
}

/** A network whose tensors are replaced one by one; of what is made here, what is replaced again is disposed. */
export const foldingOf = <N extends Network<object>>(network: N, { normOffset }: Architecture): Folding<N> => {
  const weights: Record<string, Weight> = { ...network.weights }
  const vectors: Record<string, Tensor> = { ...network.vectors }
  const made = new Set<Tensor>()
  const put = (before: Tensor | undefined, make: () => Tensor): Tensor => {
    const after = tidy(() => keep(make()))
    made.add(after)
    if (before && made.delete(before)) before.dispose()
    return after
  }
  const putWeight = (name: string, make: (w: Tensor2D) => Tensor): void => {
    const before = weights[name]!
    weights[name] = dense(put(before.parts['weight'], () => make(before.dense())) as Tensor2D)
  }
  const putVector = (name: string, make: (v: Tensor) => Tensor): void => {
    const before = vectors[name]
    if (before) vectors[name] = put(before, () => make(before))
  }
  return {
    fold: (place, s) => {
      for (const name of place.readers) putWeight(name, (w) => mul(w, forCopies(s, place)))
      const from = place.from!
      if ('norm' in from) {
        putVector(from.norm, (v) => sub(div(add(v, normOffset), s), normOffset))
        putVector(`${from.norm}.bias`, (v) => div(v, s))
        return
      }
      /** 1 for the rows before */
      const rows = (n: number): Tensor => (n === s.size ? s : concat([ones([n - s.size]), s], 0))
      putWeight(from.linear, (w) => div(w, reshape(rows(w.shape[0]), [-1, 1])))
      putVector(`${from.linear}.bias`, (v) => div(v, rows(v.size)))
    },
    network: () => ({ ...network, weights, vectors }),
    dispose: () => dispose([...made]),
  }
}
