/** Lesson 3: a method is a plain object. This one trains a scale for each row of a matrix, starts as the identity, and folds. */
import { attach } from '@weftjs/model'
import type { Adapter, Tensor, Tensor1D } from '@weftjs/spec'
import { abs, add, cpu, max, rng, sub, tensor, zeros } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { scaleRows } from '@weftjs/weight'

/** (1 + s) ⊙ W, s zero */
const rowScale = (): Adapter<{ s: Tensor1D } & Record<string, Tensor>> => ({
  name: 'row-scale',
  init: ({ out }) => ({ state: { s: zeros([out]) as Tensor1D } }), // [out]
  weight: (base, { s }) => scaleRows(add(1, s), base),
})

await cpu()
const network = tinyLlama(rng(0))
const tuned = attach(network, [{ adapter: rowScale(), at: 'blocks.*.mlp.{gate,up}' }], rng(0))
const inputs = { ids: tensor([[1, 2, 3, 4]], [1, 4], 'int32') }

// other values for what trains, and the same network with the scales folded into its matrices
const params = Object.fromEntries(
  Object.entries(tuned.params).map(([n, t]) => [n, rng(1).fork(n).normal(t.shape, 0.5)]),
)
const folded = attach(tuned.fold(params), [], rng(0))
const gap = (a: Tensor, b: Tensor): number => max(abs(sub(a, b))).arraySync() as number
const plain = attach(network, [], rng(0)).forward({}, inputs).logits
console.log(`trains: ${Object.keys(tuned.params).join(', ')}`)
console.log(`at the start: ${gap(tuned.forward(tuned.params, inputs).logits, plain)} from the network itself`)
console.log(`trained: ${gap(tuned.forward(params, inputs).logits, plain).toFixed(3)} from it`)
console.log(
  `folded: ${gap(tuned.forward(params, inputs).logits, folded.forward({}, inputs).logits).toExponential(1)} apart`,
)
