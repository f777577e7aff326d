import { factories, type TransformSuite, testTransform } from '@weftjs/testkit'
import { expect, it } from 'vitest'
import {
  adamw,
  addDecayedWeights,
  chain,
  clipByGlobalNorm,
  cosine,
  partition,
  scaleByAdam,
  scaleByLearningRate,
  sgd,
} from '../src/index.ts'

/** files of src that hold no optimizer; the parts in transform.ts are listed below */
const HELPERS = ['revised', 'schedule', 'state', 'train', 'transform']

const OPTIONS: Readonly<Record<string, readonly object[]>> = {
  adamw: [
    { lr: 0.1 },
    { lr: cosine(0.2, { steps: 60, warmup: 3 }), weightDecay: 0.1, decays: (n: string) => n === 'x' },
  ],
  'lora-fa': [{ lr: 0.1 }],
  'lora-plus': [{ lr: 0.02, ratio: 5 }],
  sgd: [{ lr: 0.01 }, { lr: 0.005, momentum: 0.9 }, { lr: 0.005, momentum: 0.8, nesterov: true, weightDecay: 0.01 }],
}

for (const { name, factory } of factories(import.meta.glob('../src/*.ts', { eager: true }), HELPERS))
  for (const options of OPTIONS[name] ?? [{}]) testTransform(`${name} ${Object.keys(options)}`, () => factory(options))

const part: TransformSuite = { descends: false }
testTransform('clipByGlobalNorm', () => clipByGlobalNorm(0.5), part)
testTransform('addDecayedWeights', () => addDecayedWeights(0.1), part)
testTransform('scaleByAdam', () => scaleByAdam(), part)
testTransform('scaleByLearningRate', () => scaleByLearningRate((step) => 0.1 / (step + 1)), part)
testTransform('chain of clipping and AdamW', () => chain(clipByGlobalNorm(1), adamw({ lr: 0.1 })))
testTransform('partition', () =>
  partition({ one: adamw({ lr: 0.1 }), rest: sgd({ lr: 0.01, momentum: 0.5 }) }, (n) => (n === 'x' ? 'one' : 'rest')),
)

it('every exported part has a row here', async () => {
  const parts = Object.keys(await import('../src/transform.ts')).sort()
  expect(parts).toEqual([
    'addDecayedWeights',
    'chain',
    'clipByGlobalNorm',
    'partition',
    'scaleByLearningRate',
    'stateless',
  ])
})
