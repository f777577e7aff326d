import * as tf from '@tensorflow/tfjs-core'
import { type Context, type Rule, type Rules, rule, unbroadcast } from './rule.ts'

const { add, cast, cos, div, exp, greater, greaterEqual, less, lessEqual, log, logicalAnd } = tf
const { mul, neg, pow, scalar, sign, sin, square, sub, where, zerosLike } = tf

type Binary = (c: Context) => tf.Tensor
const binary = (a: [string[], Binary], b: [string[], Binary]): Rules => ({
  a: [a[0], (c) => unbroadcast(a[1](c), c.in['a']!.shape)],
  b: [b[0], (c) => unbroadcast(b[1](c), c.in['b']!.shape)],
})
const x = (needs: string[], gradient: Rule[1]): Rules => ({ x: [needs, gradient] })
const asFloat = (t: tf.Tensor): tf.Tensor => cast(t, 'float32')
const none: Rule[1] = (c, name) => tf.zeros(c.in[name]!.shape)

export const arithmetic = (): void => {
  rule('Add', binary([[], (c) => c.dy], [[], (c) => c.dy]))
  rule('Sub', binary([[], (c) => c.dy], [[], (c) => neg(c.dy)]))
  rule(
    'Multiply',
    binary([['b'], (c) => mul(c.dy, asFloat(c.saved['b']!))], [['a'], (c) => mul(c.dy, asFloat(c.saved['a']!))]),
  )
  rule(
    'RealDiv',
    binary(
      [['b'], (c) => div(c.dy, asFloat(c.saved['b']!))],
      [['a', 'b'], (c) => neg(div(mul(c.dy, asFloat(c.saved['a']!)), square(asFloat(c.saved['b']!))))],
    ),
  )
  rule('FloorDiv', { a: [[], none], b: [[], none] })
  rule(
    'Mod',
    binary([[], (c) => c.dy], [['a', 'b'], (c) => mul(c.dy, neg(tf.floor(div(c.saved['a']!, c.saved['b']!))))]),
  )
  rule(
    'Pow',
    binary(
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, mul(asFloat(b!), pow(a!, sub(b!, scalar(1)))))],
      // ln a where a > 0, else 0: the power has no real derivative in its exponent there
      [['a', 'y'], ({ dy, saved: { a, y } }) => mul(dy, mul(y!, where(greater(a!, 0), log(a!), zerosLike(a!))))],
    ),
  )
  rule(
    'Maximum',
    binary(
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, asFloat(greaterEqual(a!, b!)))],
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, asFloat(less(a!, b!)))],
    ),
  )
  rule(
    'Minimum',
    binary(
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, asFloat(lessEqual(a!, b!)))],
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, asFloat(greater(a!, b!)))],
    ),
  )
  rule(
    'SquaredDifference',
    binary(
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, mul(2, sub(a!, b!)))],
      [['a', 'b'], ({ dy, saved: { a, b } }) => mul(dy, mul(2, sub(b!, a!)))],
    ),
  )
  rule('AddN', { '*': [[], (c) => c.dy] })

  rule(
    'Neg',
    x([], (c) => neg(c.dy)),
  )
  rule(
    'Abs',
    x(['x'], (c) => mul(c.dy, sign(c.saved['x']!))),
  )
  rule('Sign', x([], none))
  rule('Floor', x([], none))
  rule('Ceil', x([], none))
  rule('Round', x([], none))
  rule('Step', x([], none))
  rule('ZerosLike', x([], none))
  rule('OnesLike', x([], none))
  rule(
    'Exp',
    x(['y'], (c) => mul(c.dy, c.saved['y']!)),
  )
  rule(
    'Log',
    x(['x'], (c) => div(c.dy, c.saved['x']!)),
  )
  rule(
    'Log1p',
    x(['x'], (c) => div(c.dy, add(c.saved['x']!, 1))),
  )
  rule(
    'Sqrt',
    x(['y'], (c) => div(c.dy, mul(c.saved['y']!, 2))),
  )
  rule(
    'Rsqrt',
    x(['y'], (c) => mul(c.dy, mul(-0.5, pow(c.saved['y']!, 3)))),
  )
  rule(
    'Square',
    x(['x'], (c) => mul(c.dy, mul(c.saved['x']!, 2))),
  )
  rule(
    'Reciprocal',
    x(['y'], (c) => mul(c.dy, neg(square(c.saved['y']!)))),
  )
  rule(
    'Sin',
    x(['x'], (c) => mul(c.dy, cos(c.saved['x']!))),
  )
  rule(
    'Cos',
    x(['x'], (c) => mul(c.dy, neg(sin(c.saved['x']!)))),
  )
  rule(
    'Erf',
    x(['x'], (c) => mul(c.dy, mul(2 / Math.sqrt(Math.PI), exp(neg(square(c.saved['x']!)))))),
  )
  rule(
    'ClipByValue',
    x(['x'], ({ dy, saved, attrs: { clipValueMin, clipValueMax } }) =>
      mul(dy, asFloat(logicalAnd(greaterEqual(saved['x']!, clipValueMin), lessEqual(saved['x']!, clipValueMax)))),
    ),
  )
  rule(
    'Cast',
    x([], (c) => c.dy),
  )
  rule(
    'Identity',
    x([], (c) => c.dy),
  )
  rule('Select', {
    condition: [[], none],
    t: [['condition'], ({ dy, saved }) => mul(dy, asFloat(saved['condition']!))],
    e: [['condition'], ({ dy, saved }) => mul(dy, sub(1, asFloat(saved['condition']!)))],
  })
  for (const name of ['Equal', 'NotEqual', 'Greater', 'GreaterEqual', 'Less', 'LessEqual'])
    rule(name, { a: [[], none], b: [[], none] })
}
