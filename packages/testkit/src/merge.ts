import type { Merge, MergeContext, Tensor } from '@weftjs/spec'
import { clone, rng as newRng, tensor, zeros } from '@weftjs/tensor'
import { type Check, leaked, must, mustBeFinite, mustBeUnchanged, mustEqual, snapshot } from './check.ts'

export interface MergeSuite {
  /** n equal models, with weights that sum to 1, give that model; false for a method that drops or scales at random */
  readonly keepsEqual?: boolean
  /** the order of models, each with its weight, does not matter; false for a method that depends on it */
  readonly symmetric?: boolean
  /** needs a base; such a method must say so when it gets none */
  readonly needsBase?: boolean
  /** how many models it takes; a method for pairs states [2, 2] */
  readonly models?: readonly [least: number, most: number]
  readonly tolerance?: number
}

/** The laws of a merge of the same tensor from several models. */
export const checkMerge = (
  merge: Merge,
  { keepsEqual = true, symmetric = true, needsBase = false, models = [1, 5], tolerance = 1e-5 }: MergeSuite = {},
): readonly Check[] => {
  const [least, most] = models
  const n = Math.min(Math.max(least, 3), most)
  const random = (seed: number, shape: number[] = [6, 8]): Tensor => newRng(seed).normal(shape)
  const context = (count: number, base?: Tensor, weights?: readonly number[]): MergeContext => ({
    name: 'blocks.0.attn.q',
    weights: weights ?? Array.from({ length: count }, () => 1 / count),
    rng: newRng(7),
    ...(base && { base }),
  })
  const several = (shape?: number[]): Tensor[] => Array.from({ length: n }, (_, i) => random(40 + i, shape))
  return [
    {
      name: 'gives one finite tensor of the same shape, for matrices and vectors',
      run: async () => {
        for (const shape of [[6, 8], [5], [1, 8], [64, 3]]) {
          const merged = merge(several(shape), context(n, random(1, shape)))
          must(merged.shape.join() === shape.join(), `[${shape}] became [${merged.shape}]`)
          await mustBeFinite(merged, `[${shape}]`)
        }
      },
    },
    {
      name: keepsEqual ? 'equal models give that model' : 'equal models give something finite',
      run: async () => {
        for (let count = least; count <= Math.min(most, 4); count++) {
          const model = random(2)
          const merged = merge(
            Array.from({ length: count }, () => clone(model)),
            context(count, random(3)),
          )
          if (keepsEqual) await mustEqual(merged, model, `${count} equal models`, tolerance)
          else await mustBeFinite(merged, `${count} equal models`)
        }
      },
    },
    {
      name: 'models that equal the base give the base',
      run: async () => {
        const base = random(4)
        const merged = merge(
          Array.from({ length: n }, () => clone(base)),
          context(n, base),
        )
        await mustEqual(merged, base, 'no difference at all', tolerance)
      },
    },
    {
      name: 'the order of the models does not matter',
      run: async () => {
        if (!symmetric) return
        const tensors = several()
        const weights = tensors.map((_, i) => (i + 1) / ((n * (n + 1)) / 2))
        const base = random(5)
        const order = tensors.map((_, i) => (i + 1) % n)
        const a = merge(tensors, context(n, base, weights))
        const b = merge(
          order.map((i) => tensors[i]!),
          context(
            n,
            base,
            order.map((i) => weights[i]!),
          ),
        )
        await mustEqual(b, a, 'models in another order', tolerance)
      },
    },
    {
      name: 'no models at all give the base',
      run: async () => {
        const base = random(6)
        await mustEqual(merge([], context(0, base, [])), base, 'no models', 0)
      },
    },
    {
      name: needsBase ? 'says that it needs a base' : 'does without a base',
      run: async () => {
        const run = (): Tensor => merge(several(), context(n))
        if (!needsBase) return mustBeFinite(run(), 'merged')
        let message = ''
        try {
          run()
        } catch (error) {
          message = (error as Error).message
        }
        must(/base/.test(message), `without a base: ${message || 'nothing was thrown'}`)
      },
    },
    {
      name: 'repeats under the same seed, and changes nothing that it is given',
      run: async () => {
        const tensors = several()
        const base = random(8)
        const all = { base, ...Object.fromEntries(tensors.map((t, i) => [`model ${i}`, t])) }
        const before = await snapshot(all)
        const [a, b] = [merge(tensors, context(n, base)), merge(tensors, context(n, base))]
        await mustEqual(b, a, 'the second time', 0)
        await mustBeUnchanged(all, before, 'merging')
        const left = leaked(() => void merge(tensors, context(n, base)))
        must(left === 0, `${left} tensors remain after a merge`)
      },
    },
    {
      name: 'tensors of zeros stay finite, and a weight of 0 counts for nothing',
      run: async () => {
        const none = Array.from({ length: n }, () => zeros([6, 8]))
        await mustBeFinite(merge(none, context(n, zeros([6, 8]))), 'zeros')
        if (!symmetric || n < 2) return
        const base = random(9)
        const [first, ...rest] = several()
        const weights = [1, ...rest.map(() => 0)]
        const wild = rest.map(() => tensor(new Float32Array(48).fill(1e3), [6, 8]))
        await mustBeFinite(merge([first!, ...wild], context(n, base, weights)), 'with weights of 0')
      },
    },
  ]
}
