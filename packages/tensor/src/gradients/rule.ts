import { registerGradient, reshape, sum, type Tensor } from '@tensorflow/tfjs-core'

/** What a rule may look at: `in` and `out` give shapes only (their data may be gone), `saved` what it asked for. */
export interface Context {
  readonly dy: Tensor
  /** one per output, for kernels with several */
  readonly dys: readonly Tensor[]
  readonly in: Readonly<Record<string, Tensor>>
  readonly out: readonly Tensor[]
  readonly saved: Readonly<Record<string, Tensor>>
  readonly attrs: any
}
/** [what the gradient of this input needs: names of inputs, or 'y' for the output; the gradient] */
export type Rule = readonly [needs: readonly string[], gradient: (c: Context, input: string) => Tensor]
export interface Rules {
  readonly [input: string]: Rule
}

const table = new Map<string, Rules>()

export const rulesOf = (kernel: string): Rules | undefined => table.get(kernel)
/** the rule of one input; '*' stands for every member of a list of inputs */
export const ruleFor = (rules: Rules, input: string): Rule | undefined => rules[input] ?? rules['*']
/** the order in which tfjs hands us what a kernel saved */
export const savedNames = (rules: Rules): readonly string[] => {
  const names = [...new Set(Object.values(rules).flatMap(([needs]) => needs))]
  return [...names.filter((n) => n !== 'y'), ...names.filter((n) => n === 'y')]
}

/** The gradient of a tfjs kernel, input by input: an input that nobody trains costs nothing and keeps nothing. */
export const rule = (kernelName: string, rules: Rules): void => {
  table.set(kernelName, rules)
  const names = savedNames(rules)
  registerGradient({
    kernelName,
    inputsToSave: names.filter((n) => n !== 'y'),
    outputsToSave: [names.includes('y')],
    gradFunc: () => {
      throw new Error(`${kernelName}: take gradients with backprop() of @weftjs/tensor, not with tf.grad`)
    },
  })
}

/** sum what broadcasting has spread, so that x has `shape` again */
export const unbroadcast = (x: Tensor, shape: readonly number[]): Tensor => {
  const extra = x.rank - shape.length
  const axes = x.shape.flatMap((n, i) => (i < extra || (shape[i - extra] === 1 && n !== 1) ? [i] : []))
  const y = axes.length ? sum(x, axes) : x
  return reshape(y, shape as number[])
}
