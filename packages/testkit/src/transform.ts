import type { Loss, Params, Scalar, Tensor, Transform } from '@weftjs/spec'
import {
  add,
  applyUpdates,
  backprop,
  dispose,
  disposeReplaced,
  isTensor,
  keep,
  matMul,
  memory,
  mul,
  rng,
  square,
  sub,
  sum,
  tensor,
  tensorsIn,
  tidy,
  zerosLike,
} from '@weftjs/tensor'
import { allFinite, type Check, distance, must, mustBeUnchanged, mustEqual, snapshot } from './check.ts'

export interface TransformSuite {
  /** an optimizer, which goes downhill on its own; false for one part of a chain */
  readonly descends?: boolean
  readonly steps?: number
  /** share of the first loss that may be left on the parabola and the matrix target, and on Rosenbrock's valley */
  readonly left?: number
  readonly leftInValley?: number
}

interface Problem {
  readonly name: string
  readonly start: () => Params
  readonly loss: Loss
}
const problems: readonly Problem[] = [
  {
    name: 'a parabola',
    start: () => ({ x: tensor([1, -2, 3]), y: tensor([[2]]) }),
    loss: ({ x, y }) => add(sum(square(sub(x!, 0.5))), sum(square(sub(y!, 0.5)))) as Scalar,
  },
  {
    name: "Rosenbrock's valley",
    start: () => ({ x: tensor([-0.5]), y: tensor([0.8]) }),
    loss: ({ x, y }) => sum(add(square(sub(1, x!)), mul(square(sub(y!, square(x!))), 10))) as Scalar,
  },
  {
    name: 'a matrix target',
    start: () => ({ w: rng(31).normal([4, 3], 0.5) }),
    loss: ({ w }) => {
      const x = rng(32).normal([3, 6])
      return sum(square(matMul(sub(w!, rng(33).normal([4, 3])), x))) as Scalar
    },
  },
]

/** a state through JSON and numbers, as a checkpoint keeps it: anything but plain data and tensors is lost on the way */
const throughFile = async (state: unknown): Promise<unknown> => {
  const values: { data: ArrayLike<number>; shape: number[]; dtype: 'float32' | 'int32' | 'bool' }[] = []
  const index = new Map<Tensor, number>()
  for (const t of tensorsIn(state)) {
    index.set(t, values.length)
    values.push({ data: (await t.data()).slice(), shape: t.shape, dtype: t.dtype as 'float32' })
  }
  const text = JSON.stringify(state, function (this: Record<string, unknown>, key, value: unknown) {
    const own = this[key]
    if (isTensor(own)) return { $tensor: index.get(own) }
    if (typeof own === 'number' && !Number.isFinite(own)) throw new Error(`${key}: ${own} does not survive JSON`)
    if (own === undefined || typeof own === 'function' || typeof own === 'bigint')
      throw new Error(`${key}: a ${typeof own} does not survive JSON`)
    if (
      typeof own === 'object' &&
      own !== null &&
      !Array.isArray(own) &&
      Object.getPrototypeOf(own) !== Object.prototype
    )
      throw new Error(`${key}: an object of a class does not survive JSON`)
    return value
  })
  return JSON.parse(text, (_, value: unknown) => {
    if (typeof value !== 'object' || value === null || !('$tensor' in value)) return value
    const { data, shape, dtype } = values[(value as { $tensor: number }).$tensor]!
    return tensor(data as never, shape, dtype)
  })
}

/** The laws of a Transform: optax's list. `make` gives a fresh one, for transforms hold no state of their own. */
export const checkTransform = (
  make: () => Transform<any>,
  { descends = true, steps = 60, left = 0.2, leftInValley = 0.5 }: TransformSuite = {},
): readonly Check[] => {
  const run = async (
    { start, loss }: Problem,
    {
      from = 0,
      to = steps,
      state,
      params = start(),
    }: { from?: number; to?: number; state?: unknown; params?: Params } = {},
    visit: (params: Params, state: unknown) => Promise<void> | void = () => {},
  ): Promise<{ losses: number[]; params: Params; state: unknown; tensors: number[] }> => {
    const tx = make()
    const losses: number[] = []
    const tensors: number[] = []
    let now = { params, state: state === undefined ? tx.init(params) : state }
    for (let i = from; i < to; i++) {
      const next = tidy(() => {
        const found = backprop(loss, now.params)
        const [updates, after] = tx.update(found.grads, now.state, now.params)
        const result = { loss: found.loss, params: applyUpdates(now.params, updates), state: after as unknown }
        for (const t of tensorsIn(result)) keep(t)
        return result as never
      }) as { loss: Scalar; params: Params; state: unknown }
      const [value] = await next.loss.data()
      dispose(next.loss)
      disposeReplaced([now.params, now.state], [next.params, next.state])
      now = { params: next.params, state: next.state }
      losses.push(value!)
      tensors.push(memory().numTensors)
      await visit(now.params, now.state)
    }
    return { losses, tensors, ...now }
  }
  const one = problems[0]!

  return [
    ...(descends ? problems : []).map(
      (problem): Check => ({
        name: `goes down on ${problem.name}`,
        run: async () => {
          const { losses, params } = await run(problem)
          await allFinite(params, 'values')
          const share = losses.at(-1)! / losses[0]!
          const most = problem === problems[1] ? leftInValley : left
          must(share <= most, `${losses[0]} → ${losses.at(-1)}: ${(share * 100).toFixed(1)}% of the loss is left`)
        },
      }),
    ),
    {
      name: 'gives one finite update of the same shape for each gradient, and changes no parameter',
      run: async () => {
        const params = one.start()
        const before = await snapshot(params)
        const tx = make()
        const state = tx.init(params)
        await mustBeUnchanged(params, before, 'init')
        const { grads } = backprop(one.loss, params)
        const [updates] = tx.update(grads, state, params)
        must(
          Object.keys(updates).sort().join() === Object.keys(grads).sort().join(),
          'names of updates and gradients differ',
        )
        for (const [name, u] of Object.entries(updates))
          must(
            u.shape.join() === grads[name]!.shape.join(),
            `${name}: [${u.shape}] for a gradient [${grads[name]!.shape}]`,
          )
        await allFinite(updates, 'update')
        await mustBeUnchanged(params, before, 'update')
      },
    },
    {
      name: 'returns no tensor both as an update and in its state: whoever takes the updates may write over them',
      run: () => {
        const params = one.start()
        const tx = make()
        let state: unknown = tx.init(params)
        for (let i = 0; i < 2; i++) {
          const { grads } = backprop(one.loss, params)
          const [updates, next] = tx.update(grads, state, params)
          const inState = new Set(tensorsIn(next))
          for (const [name, u] of Object.entries(updates))
            must(!inState.has(u), `${name}: its update ${i} is part of the state; clone it`)
          state = next
        }
      },
    },
    {
      name: 'zero gradients give finite updates, again and again',
      run: async () => {
        const params = one.start()
        const tx = make()
        let state: unknown = tx.init(params)
        for (let i = 0; i < 4; i++) {
          const grads = Object.fromEntries(Object.entries(params).map(([n, p]) => [n, zerosLike(p)]))
          const [updates, next] = tx.update(grads, state, params)
          await allFinite(updates, `update ${i}`)
          state = next
        }
      },
    },
    {
      name: 'huge and tiny gradients give finite updates',
      run: async () => {
        for (const size of [1e-20, 1e15]) {
          const params = one.start()
          const tx = make()
          const grads = Object.fromEntries(Object.entries(params).map(([n, p]) => [n, mul(p, size)]))
          const [updates] = tx.update(grads, tx.init(params), params)
          await allFinite(updates, `update of gradients about ${size}`)
        }
      },
    },
    {
      name: 'nothing to train is no error',
      run: () => {
        const tx = make()
        const [updates] = tx.update({}, tx.init({}), {})
        must(Object.keys(updates).length === 0, `updates ${Object.keys(updates).join()} for no gradients`)
      },
    },
    {
      name: 'has no state of its own: two runs at once do not disturb each other',
      run: async () => {
        const tx = make()
        const alone = await run(one, { to: 3 })
        const [p, q] = [one.start(), one.start()]
        let [a, b]: [unknown, unknown] = [tx.init(p), tx.init(q)]
        let [x, y]: [Params, Params] = [p, q]
        for (let i = 0; i < 3; i++) {
          const [u, s] = tx.update(backprop(one.loss, x).grads, a, x)
          const [v, t] = tx.update(backprop(one.loss, y).grads, b, y)
          ;[a, b, x, y] = [s, t, applyUpdates(x, u), applyUpdates(y, v)]
        }
        for (const n of Object.keys(x)) {
          await mustEqual(x[n]!, alone.params[n]!, n, 0)
          await mustEqual(y[n]!, alone.params[n]!, n, 0)
        }
      },
    },
    {
      name: 'its state survives a file: a resumed run is the same run',
      run: async () => {
        const straight = await run(one, { to: 6 })
        const half = await run(one, { to: 3 })
        const state = await throughFile(half.state)
        const resumed = await run(one, { from: 3, to: 6, state, params: half.params })
        for (const [n, t] of Object.entries(straight.params))
          must(distance(await t.data(), await resumed.params[n]!.data()) === 0, `${n} differs after resuming`)
      },
    },
    {
      name: 'the count of tensors stays flat',
      run: async () => {
        const { tensors } = await run(one, { to: 6 })
        // the first steps may fill a state that starts empty
        const later = tensors.slice(2)
        must(new Set(later).size === 1, `tensors alive after each step: ${tensors.join(', ')}`)
      },
    },
  ]
}
