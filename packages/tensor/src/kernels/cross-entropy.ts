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
  type Scalar,
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
import { engine } from '../engine.ts'
import { defineKernel, kernels } from '../kernel.ts'
import { scaleInPlace } from './in-place.ts'

export interface CrossEntropyOptions {
  /** rows of logits that exist at a time; by default what fits in 64 MB */
  readonly rows?: number
  /** c·tanh(logits/c), Gemma 2 */
  readonly softcap?: number | undefined
}
interface Attrs {
  readonly rows: number
  readonly softcap: number | undefined
}
export type CrossEntropyInputs = Record<'hidden' | 'head' | 'targets' | 'weights', Tensor>

/** bytes of logits at a time: every piece goes through the whole head again, so that smaller ones are slower */
const PIECE = 64e6

/** pieces of almost equal height */
const rowsOf = (N: number, V: number): number => {
  const most = Math.max(16, Math.floor(PIECE / 4 / V))
  return Math.ceil(N / Math.max(1, Math.ceil(N / most)))
}

const part = (t: Tensor, from: number, n: number): Tensor =>
  slice(t, [from, ...t.shape.slice(1).map(() => 0)], [n, ...t.shape.slice(1)])

/** run f over consecutive pieces of n rows */
const pieces = (n: number, rows: number, f: (from: number, count: number) => void): void => {
  for (let from = 0; from < n; from += rows) f(from, Math.min(rows, n - from))
}

/** of z [n, V]: Σ wᵢ·(logsumexp zᵢ − zᵢ[tᵢ]) and, if asked for, its gradient dz [n, V] */
export type Rows = (z: Tensor, targets: Tensor, weights: Tensor, slope: boolean) => RowsResult
export interface RowsResult {
  readonly loss: Tensor
  readonly dz: Tensor | undefined
}

const plainRows: Rows = (z, targets, weights, slope) => {
  const [n, V] = z.shape as [number, number]
  const top = max(z, 1, true)
  const e = exp(sub(z, top)) // [n, V]
  const total = sum(e, 1, true) // [n, 1]
  const logZ = reshape(add(log(total), top), [n])
  const flat = add(mul(range(0, n, 1, 'int32'), scalar(V, 'int32')), targets)
  const loss = sum(mul(sub(logZ, gather(reshape(z, [-1]), flat)), weights))
  if (!slope) return { loss, dz: undefined }
  return { loss, dz: mul(sub(div(e, total), oneHot(targets as never, V)), reshape(weights, [n, 1])) }
}

/** faster ways by the backend's name, which may write over the logits; undefined declines */
export const rowsOn: Record<string, (...args: Parameters<Rows>) => RowsResult | undefined> = {}

type Wants = (input: keyof CrossEntropyInputs & string) => boolean
/** the loss and, as far as they are wanted, its gradients `dHidden` [N, D] and `dHead` [V, D] */
export type Pass = (
  inputs: CrossEntropyInputs,
  attrs: Attrs,
  wants: Wants,
) => { y: Tensor; saved: Record<string, Tensor> } | undefined
/** a faster way to the whole, by the backend's name; undefined declines */
export const passOn: Record<string, Pass> = {}

const run = (inputs: CrossEntropyInputs, attrs: Attrs, wants: Wants): { y: Tensor; saved: Record<string, Tensor> } => {
  const { backendName } = engine()
  const whole = kernels.plain ? undefined : passOn[backendName]?.(inputs, attrs, wants)
  if (whole) return whole
  const { hidden, head, targets, weights } = inputs
  const { rows, softcap } = attrs
  const fast = kernels.plain ? undefined : rowsOn[backendName]
  const each: Rows = (...args) => fast?.(...args) ?? plainRows(...args)
  const slope = wants('hidden') || wants('head')
  let loss: Tensor = scalar(0)
  let dHead: Tensor | undefined = wants('head') ? zeros(head.shape) : undefined
  const dHidden: Tensor[] = []
  pieces(hidden.shape[0]!, rows, (from, n) => {
    const [next, dh, dw] = tidy(() => {
      const h = part(hidden, from, n)
      const raw = matMul(h, head, false, true) // [n, V]
      const bent = softcap ? tanh(div(raw, softcap)) : undefined
      const z = bent ? mul(bent, softcap!) : raw
      const found = each(z, part(targets, from, n), part(weights, from, n), slope)
      const dz = bent && found.dz ? mul(found.dz, sub(1, square(bent))) : found.dz
      return [
        add(loss, found.loss),
        wants('hidden') ? matMul(dz!, head) : scalar(0),
        dHead ? add(dHead, matMul(dz!, h, true, false)) : scalar(0),
      ]
    }) as [Tensor, Tensor, Tensor]
    dispose(loss)
    loss = next
    if (wants('hidden')) dHidden.push(dh)
    else dh.dispose()
    if (dHead) {
      dHead.dispose()
      dHead = dw
    } else dw.dispose()
  })
  return {
    y: loss,
    saved: {
      ...(dHidden.length && { dHidden: dHidden.length === 1 ? dHidden[0]! : concat(dHidden, 0) }),
      ...(dHead && { dHead }),
    },
  }
}

const kernel = defineKernel<CrossEntropyInputs, Attrs>({
  name: 'CrossEntropy',
  plain: (inputs, attrs) => run(inputs, attrs, () => false).y,
  ahead: run,
  keeps: () => [],
  gradient: ({ dy, saved, wants }) => {
    const { dHidden: hidden, dHead: head } = saved as Record<string, Tensor>
    const slopes = { ...(wants('hidden') && { hidden: hidden! }), ...(wants('head') && { head: head! }) }
    return scaleInPlace(slopes, dy as Scalar) // nobody reads them again
  },
})

/**
 * Σᵢ weightsᵢ·(logsumexp zᵢ − zᵢ[targetᵢ]), z = hidden·headᵀ, in pieces of rows: the logits never exist whole, and the
 * gradients are made in the same pass.
 * hidden [N, D], head [V, D], targets [N] int32 (any valid id where the weight is 0), weights [N] → scalar
 */
export const crossEntropy = (
  hidden: Tensor,
  head: Tensor,
  targets: Tensor,
  weights: Tensor,
  { rows = rowsOf(hidden.shape[0]!, head.shape[0]!), softcap }: CrossEntropyOptions = {},
): Tensor => kernel({ hidden, head, targets, weights }, { rows, softcap })
