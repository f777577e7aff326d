import * as tf from '@tensorflow/tfjs-core'
import { rule } from './rule.ts'

const { add, cast, exp, greater, mul, sigmoid, square, sub, sum } = tf

export const activation = (): void => {
  rule('Sigmoid', { x: [['y'], ({ dy, saved: { y } }) => mul(dy, mul(y!, sub(1, y!)))] })
  rule('Tanh', { x: [['y'], ({ dy, saved: { y } }) => mul(dy, sub(1, square(y!)))] })
  rule('Relu', { x: [['y'], ({ dy, saved: { y } }) => mul(dy, cast(greater(y!, 0), 'float32'))] })
  rule('LeakyRelu', {
    x: [
      ['x'],
      ({ dy, saved: { x }, attrs: { alpha } }) =>
        mul(dy, tf.where(greater(x!, 0), tf.onesLike(x!), tf.fill(x!.shape, alpha))),
    ],
  })
  rule('Elu', { x: [['y'], ({ dy, saved: { y } }) => mul(dy, tf.where(greater(y!, 0), tf.onesLike(y!), add(y!, 1)))] })
  rule('Softplus', { x: [['x'], ({ dy, saved: { x } }) => mul(dy, sigmoid(x!))] })
  rule('Softmax', {
    logits: [
      ['y'],
      ({ dy, saved: { y }, attrs: { dim } }) => {
        const weighted = mul(dy, y!)
        return sub(weighted, mul(sum(weighted, [dim], true), y!))
      },
    ],
  })
  rule('LogSoftmax', {
    logits: [['y'], ({ dy, saved: { y }, attrs: { axis } }) => sub(dy, mul(sum(dy, [axis], true), exp(y!)))],
  })
}
