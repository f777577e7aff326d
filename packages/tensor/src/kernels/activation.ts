import { add, erf, exp, mul, relu, sigmoid, square, step, sub, type Tensor, tanh } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu' | 'tanh'

const SQRT_HALF = Math.SQRT1_2
const C = Math.sqrt(2 / Math.PI)

/** each activation with its derivative */
const ACTIVATIONS: Record<Activation, { f: (x: Tensor) => Tensor; df: (x: Tensor) => Tensor }> = {
  silu: {
    f: (x) => mul(x, sigmoid(x)),
    df: (x) => {
      const s = sigmoid(x)
      return add(s, mul(mul(x, s), sub(1, s)))
    },
  },
  gelu: {
    f: (x) => mul(mul(0.5, x), add(1, erf(mul(x, SQRT_HALF)))),
    df: (x) =>
      add(mul(0.5, add(1, erf(mul(x, SQRT_HALF)))), mul(x, mul(exp(mul(-0.5, square(x))), 1 / Math.sqrt(2 * Math.PI)))),
  },
  gelu_tanh: {
    f: (x) => mul(mul(0.5, x), add(1, tanh(inner(x)))),
    df: (x) => {
      const t = tanh(inner(x))
      const slope = mul(C, add(1, mul(3 * 0.044715, square(x))))
      return add(mul(0.5, add(1, t)), mul(mul(mul(0.5, x), sub(1, square(t))), slope))
    },
  },
  relu: { f: relu, df: (x) => step(x) },
  tanh: { f: tanh, df: (x) => sub(1, square(tanh(x))) },
}
const inner = (x: Tensor): Tensor => mul(C, add(x, mul(0.044715, mul(square(x), x))))

const act = defineKernel<{ x: Tensor }, { activation: Activation }>({
  name: 'Activation',
  plain: ({ x }, { activation }) => ACTIVATIONS[activation].f(x),
  gradient: ({ dy, saved, attrs }) => ({ x: mul(dy, ACTIVATIONS[attrs.activation].df(saved.x)) }),
})

/** f(x), elementwise; `gelu` is exact (erf), `gelu_tanh` its approximation */
export const activate = (x: Tensor, activation: Activation): Tensor => act({ x }, { activation })

const gated = defineKernel<{ gate: Tensor; up: Tensor }, { activation: Activation }>({
  name: 'Glu',
  plain: ({ gate, up }, { activation }) => mul(ACTIVATIONS[activation].f(gate), up),
  keeps: (wants) => [...(wants('gate') ? (['gate', 'up'] as const) : (['gate'] as const))],
  gradient: ({ dy, saved: { gate, up }, attrs: { activation }, wants }) => ({
    ...(wants('gate') && { gate: mul(mul(dy, up), ACTIVATIONS[activation].df(gate)) }),
    ...(wants('up') && { up: mul(dy, ACTIVATIONS[activation].f(gate)) }),
  }),
})

/** f(gate) ⊙ up; with silu, SwiGLU  —  Shazeer, arXiv:2002.05202 */
export const glu = (gate: Tensor, up: Tensor, activation: Activation = 'silu'): Tensor =>
  gated({ gate, up }, { activation })
