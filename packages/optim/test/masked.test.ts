import { cpu, rng, square, sum, tensor, tensor1d } from '@weftjs/tensor'
import { testTransform } from '@weftjs/testkit'
import { expect, it } from 'vitest'
import { adamw, apart, masked, sgd, train } from '../src/index.ts'

await cpu()
testTransform('masked', () => masked({ x: tensor1d([1, 0, 1]) }, adamw({ lr: 0.1 })), { descends: false })
testTransform('masked by nothing', () => masked({}, sgd({ lr: 0.01 })))
testTransform('apart', () => apart(adamw({ lr: 0.1 })))

it('what is masked stays bit by bit, though it would decay', async () => {
  const start = rng(1).normal([6])
  const before = [...start.dataSync()]
  const mask = tensor1d([1, 0, 0, 1, 0, 1])
  const run = train({
    params: { x: start, y: tensor([1]) },
    data: [0, 0, 0, 0],
    loss: ({ x }) => sum(square(x!)),
    transform: masked({ x: mask }, adamw({ lr: 0.1, weightDecay: 0.5 })),
  })
  let after: number[] = []
  for await (const s of run) after = [...s.params['x']!.dataSync()]
  const kept = [...mask.dataSync()]
  before.forEach((v, i) => {
    if (kept[i]) expect(after[i]).not.toBe(v)
    else expect(after[i]).toBe(v)
  })
})

it('a mask of another shape is refused', () => {
  const tx = masked({ x: tensor1d([1, 0]) }, sgd())
  expect(() => tx.update({ x: tensor1d([1, 2, 3]) }, tx.init({}), {})).toThrow('x: a mask [2] for a tensor [3]')
})
