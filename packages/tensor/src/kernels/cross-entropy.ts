import {
  add,
  concat,
  dispose,
  div,
  exp,
  gather,
  log,
  matMul,
  max,
  mul,
  oneHot,
  range,
  reshape,
  scalar,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
  tidy,
  zeros,
} from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

export interface CrossEntropyOptions {
  /** rows of logits that exist at a time */
  readonly rows?: number
  /** c·tanh(logits/c), Gemma 2 */
  readonly softcap?: number | undefined
}
interface Attrs {
  readonly rows: number
  readonly softcap: number | undefined
}

const capped = (z: Tensor, softcap: number | undefined): Tensor => (softcap ? mul(tanh(div(z, softcap)), softcap) : z)
const part = (t: Tensor, from: number, n: number): Tensor =>
  slice(t, [from, ...t.shape.slice(1).map(() => 0)], [n, ...t.shape.slice(1)])

/** run f over consecutive pieces of n rows */
const pieces = (n: number, rows: number, f: (from: number, count: number) => void): void => {
  for (let from = 0; from < n; from += rows) f(from, Math.min(rows, n - from))
}

const kernel = defineKernel<{ hidden: Tensor; head: Tensor; targets: Tensor; weights: Tensor }, Attrs>({
  name: 'CrossEntropy',
  plain: ({ hidden, head, targets, weights }, { rows, softcap }) => {
    let loss: Tensor = scalar(0)
    pieces(hidden.shape[0]!, rows, (from, n) => {
      const next = tidy(() => {
        const z = capped(matMul(part(hidden, from, n), head, false, true), softcap) // [n, V]
        const top = max(z, 1, true)
        const logZ = add(log(sum(exp(sub(z, top)), 1)), reshape(top, [n])) // [n]
        const flat = add(mul(rangeOf(n), scalar(head.shape[0]!, 'int32')), part(targets, from, n))
        const hit = gather(reshape(z, [-1]), flat) // [n]
        return add(loss, sum(mul(sub(logZ, hit), part(weights, from, n))))
      })
      dispose(loss)
      loss = next
    })
    return loss
  },
  keeps: () => ['hidden', 'head', 'targets', 'weights'],
  gradient: ({ dy, saved: { hidden, head, targets, weights }, attrs: { rows, softcap }, wants }) => {
    const dHidden: Tensor[] = []
    let dHead: Tensor | undefined = wants('head') ? zeros(head.shape) : undefined
    pieces(hidden.shape[0]!, rows, (from, n) => {
      const [dh, dw] = tidy(() => {
        const h = part(hidden, from, n)
        const raw = matMul(h, head, false, true)
        const z = capped(raw, softcap)
        const e = exp(sub(z, max(z, 1, true)))
        const w = reshape(mul(part(weights, from, n), dy), [n, 1])
        let dz = mul(sub(div(e, sum(e, 1, true)), oneHot(part(targets, from, n) as never, head.shape[0]!)), w) // [n, V]
        if (softcap) dz = mul(dz, sub(1, square(div(z, softcap))))
        return [
          wants('hidden') ? matMul(dz, head) : scalar(0),
          dHead ? add(dHead, matMul(dz, h, true, false)) : scalar(0),
        ]
      }) as [Tensor, Tensor]
      dHidden.push(dh)
      if (dHead) {
        dispose(dHead)
        dHead = dw
      }
    })
    return {
      ...(wants('hidden') && { hidden: dHidden.length === 1 ? dHidden[0]! : concat(dHidden, 0) }),
      ...(dHead && { head: dHead }),
    }
  },
})
const rangeOf = (n: number): Tensor => range(0, n, 1, 'int32')

/**
 * Σᵢ weightsᵢ·(logsumexp zᵢ − zᵢ[targetᵢ]), z = hidden·headᵀ, in pieces of rows: the logits never exist whole.
 * hidden [N, D], head [V, D], targets [N] int32 (any valid id where the weight is 0), weights [N] → scalar
 */
export const crossEntropy = (
  hidden: Tensor,
  head: Tensor,
  targets: Tensor,
  weights: Tensor,
  { rows = 512, softcap }: CrossEntropyOptions = {},
): Tensor => kernel({ hidden, head, targets, weights }, { rows, softcap })
