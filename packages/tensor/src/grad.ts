import { backend, clone, dispose, ones, type Scalar, type Tensor, tidy, zeros, zerosLike } from '@tensorflow/tfjs-core'
import type { Loss, Params } from '@weftjs/spec'
import { type Engine, engine, type TapeNode } from './engine.ts'
import { registerGradients } from './gradients/index.ts'
import { ruleFor, rulesOf, savedNames } from './gradients/rule.ts'
import { addTo } from './kernels/in-place.ts'
import { mapTensors, tensorsIn } from './params.ts'

/** ids of the tensors that depend on what the innermost `gradients` call differentiates */
let live: Set<number> | null = null

/** Does anything that is being differentiated reach x? False outside of `backprop`. */
export const isLive = (x: Tensor): boolean => live?.has(x.id) ?? false

/** gradients by tensor id, while the gradient of one op is taken */
let soFar: ReadonlyMap<number, Tensor> | null = null

/**
 * The gradient that x has from other uses already, where nobody else holds its data: an op's gradient may be added to it
 * in place and the same tensor returned.
 */
export const gradientSoFar = (x: Tensor): Tensor | undefined => {
  const found = soFar?.get(x.id)
  return found && backend().refCount(found.dataId) === 1 ? found : undefined
}

const patched = Symbol.for('weft.tape')

/**
 * tfjs records every op between the start and the end of a tape, and keeps what each gradient might want.
 * We record only what depends on a trained tensor, and keep only what the gradients of such inputs read:
 * a frozen network leaves nothing behind.
 */
const patch = (e: Engine & { [patched]?: boolean }): void => {
  if (e[patched]) return
  e[patched] = true
  const record = e.addTapeNode.bind(e)
  e.addTapeNode = (kernelName, inputs, outputs, gradient, saved, attrs) => {
    if (!live) return record(kernelName, inputs, outputs, gradient, saved, attrs)
    if (e.state.kernelDepth > 0 || !e.state.activeTape) return
    const names = Object.keys(inputs).filter((n) => live!.has(inputs[n]!.id))
    if (!names.length) return dispose(saved)
    for (const y of outputs) live.add(y.id)
    const rules = gradient ? undefined : rulesOf(kernelName)
    if (rules && saved.length) {
      const wanted = new Set(names.flatMap((n) => ruleFor(rules, n)?.[0] ?? []))
      savedNames(rules).forEach((n, i) => {
        if (!wanted.has(n)) saved[i]?.dispose()
      })
    }
    e.state.activeTape.push({ kernelName, inputs, outputs, saved, attrs, gradient })
  }
}

const backward = (node: TapeNode, dys: Tensor[], tracked: Set<number>): Record<string, Tensor> => {
  const names = Object.keys(node.inputs).filter((n) => tracked.has(node.inputs[n]!.id))
  if (node.gradient) {
    const all = node.gradient(dys.length > 1 ? dys : dys[0]!, node.saved, node.attrs as Record<string, unknown>)
    return Object.fromEntries(names.map((n) => [n, all[n]!()]))
  }
  const rules = rulesOf(node.kernelName)
  if (!rules) throw new Error(`${node.kernelName}: no gradient is defined; add a rule in packages/tensor/src/gradients`)
  const saved = Object.fromEntries(savedNames(rules).map((n, i) => [n, node.saved[i]!]))
  const context = { dy: dys[0]!, dys, in: node.inputs, out: node.outputs, saved, attrs: node.attrs }
  return Object.fromEntries(
    names.map((n) => {
      const found = ruleFor(rules, n)
      if (!found) throw new Error(`${node.kernelName}: no gradient is defined for its input '${n}'`)
      return [n, found[1](context, n)]
    }),
  )
}

/**
 * Reverse-mode gradients of a scalar (or, with `dy`, of any tensor) in `xs`; null where y does not depend on x.
 * May run inside another gradient's backward pass (recompute); second derivatives are not supported.
 */
export const gradients = (
  f: () => Tensor,
  xs: readonly Tensor[],
  dy?: Tensor,
): { value: Tensor; grads: (Tensor | null)[] } => {
  const e = engine()
  registerGradients()
  patch(e)
  const { activeTape, gradientDepth, kernelDepth } = e.state
  const [outer, outerGrads] = [live, soFar]
  const tracked = new Set(xs.map((x) => x.id))
  const tape: TapeNode[] = []
  const restore = (): void => {
    Object.assign(e.state, { activeTape, gradientDepth, kernelDepth })
    live = outer
    soFar = outerGrads
  }
  let value: Tensor
  try {
    live = tracked
    Object.assign(e.state, { activeTape: tape, gradientDepth: 1, kernelDepth: 0 })
    // an op such as clone may return its input: keep a tensor of our own
    value = tidy(() => clone(f()))
  } catch (error) {
    for (const node of tape) dispose(node.saved)
    throw error
  } finally {
    restore()
  }
  return tidy(() => {
    // nothing in the backward pass is taped
    Object.assign(e.state, { kernelDepth: 1 })
    const grads = new Map<number, Tensor>()
    const wanted = new Set(xs.map((x) => x.id))
    try {
      if (tracked.has(value.id)) grads.set(value.id, dy ? clone(dy) : ones(value.shape))
      for (let node = tape.pop(); node; node = tape.pop()) {
        const step = node
        if (step.outputs.some((y) => grads.has(y.id))) {
          const found = tidy(() => {
            const dys = step.outputs.map((y) => grads.get(y.id) ?? zeros(y.shape))
            soFar = grads
            const dxs = backward(step, dys, tracked)
            for (const [n, dx] of Object.entries(dxs)) {
              const x = step.inputs[n]!
              if (dx.shape.join() !== x.shape.join())
                throw new Error(
                  `${step.kernelName}: gradient of '${n}' has shape [${dx.shape}], its input [${x.shape}]`,
                )
            }
            const fresh = Object.entries(dxs).filter(([n, dx]) => dx !== grads.get(step.inputs[n]!.id)) // not added to
            return Object.fromEntries(fresh.map(([n, dx]) => [n, clone(dx)]))
          })
          for (const [n, dx] of Object.entries(found)) {
            const { id } = step.inputs[n]!
            const before = grads.get(id)
            const sum = before ? addTo(before, dx) : dx
            grads.set(id, sum)
            if (before) dispose([before, dx].filter((t) => t !== sum))
          }
          for (const y of step.outputs)
            if (!wanted.has(y.id)) {
              grads.get(y.id)?.dispose()
              grads.delete(y.id)
            }
        }
        dispose(step.saved)
      }
      return { value, grads: xs.map((x) => grads.get(x.id) ?? null) } as never
    } finally {
      for (const node of tape) dispose(node.saved)
      restore()
    }
  }) as { value: Tensor; grads: (Tensor | null)[] }
}

/** The estimator that everyone means: loss and gradients by reverse mode. A parameter the loss does not reach gets zeros. */
export const backprop = (loss: Loss, params: Params): { loss: Scalar; grads: Params } =>
  tidy(() => {
    const names = Object.keys(params)
    const { value, grads } = gradients(
      () => loss(params),
      names.map((n) => params[n]!),
    )
    if (value.size !== 1)
      throw new Error(`backprop: the loss must be one number, found shape [${value.shape}]; take its mean or sum`)
    return {
      loss: value as Scalar,
      grads: Object.fromEntries(names.map((n, i) => [n, grads[i] ?? zerosLike(params[n]!)])),
    }
  })

/** the value of x, held constant: no gradient flows through */
export const stopGradient = <T extends Tensor>(x: T): T => untaped(() => clone(x))

/** run f without recording it: its result is a constant to any gradient */
export const untaped = <T extends Tensor | Tensor[]>(f: () => T): T => {
  const { state } = engine()
  state.kernelDepth++
  try {
    return tidy(f)
  } finally {
    state.kernelDepth--
  }
}

/**
 * f(x), keeping only x: f runs again in the backward pass (activation recomputation, Chen et al., arXiv:1604.06174).
 * `inner` lists the trained tensors that f reads besides x. `held`, a tensor or plain objects and arrays of them, is what
 * else f reads and might be gone by then: f is given it, and the same values again.
 */
export const recompute = <H = undefined>(
  f: (x: Tensor, held: H) => Tensor,
  x: Tensor,
  inner: readonly Tensor[] = [],
  held: H = undefined as H,
): Tensor => {
  const all = [x, ...inner]
  const wanted = all.filter(isLive)
  const constants = tensorsIn(held)
  return engine().runKernelFunc({
    inputs: Object.fromEntries(all.map((t, i) => [String(i), t])),
    attrs: {},
    forwardFunc: (_, save) => {
      const y = f(x, held)
      save([x, ...constants])
      return y
    },
    backwardsFunc: (dy, [again, ...copies]) => {
      const of = (t: Tensor): Tensor => (t === x ? again! : t)
      const { grads } = gradients(
        () =>
          f(
            again!,
            mapTensors(held, (t) => copies[constants.indexOf(t)]!),
          ),
        wanted.map(of),
        dy as Tensor,
      )
      return Object.fromEntries(all.map((t, i) => [String(i), () => grads[wanted.indexOf(t)] ?? zeros(t.shape)]))
    },
  }) as Tensor
}
