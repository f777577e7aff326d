import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, inParts, output, routines } from '../../heap.ts'
import type { Backward, Faster } from '../../kernel.ts'
import * as module from '../../wasm/activation.generated.ts'
import type { Activation } from '../activation.ts'
import { replace } from './shape.ts'

type Attrs = { activation: Activation }
type Gated = { gate: Tensor; up: Tensor }

const floats = (...xs: Tensor[]): boolean =>
  xs.every((x) => x.dtype === 'float32' && x.size === xs[0]!.size && x.size > 3)
const at = (t: Tensor | undefined): number => (t ? addressOf(t) : 0)

/** numbers that are worth a thread: about 0.1 ms */
const PART = 2 ** 16

interface Pass {
  x: Tensor
  up?: Tensor | undefined
  y?: Tensor
  dy?: Tensor
  dx?: Tensor | undefined
  dup?: Tensor | undefined
}
const run = ({ x, up, y, dy, dx, dup }: Pass, { activation }: Attrs): void => {
  const all = [x, up, y, dy, dx, dup].map(at)
  inParts(module, activation, { n: x.size, least: PART }, (from, count) => [
    ...all.map((address) => (address ? address + 4 * from : 0)),
    count,
  ])
}

export const activate: Faster<{ x: Tensor }, Attrs> = {
  forward: ({ x }, attrs) => {
    if (!floats(x)) return undefined
    const y = output(x.shape)
    run({ x, y }, attrs)
    return y
  },
  gradient: ({ dy, saved: { x }, attrs }: Backward<{ x: Tensor }, Attrs>) => {
    if (!floats(x, dy)) return undefined
    const dx = output(x.shape)
    run({ x, dy, dx }, attrs)
    return { x: dx }
  },
}

export const glu: Faster<Gated, Attrs> = {
  forward: ({ gate, up }, attrs) => {
    if (!floats(gate, up)) return undefined
    const y = output(gate.shape)
    run({ x: gate, up, y }, attrs)
    return y
  },
  gradient: ({ dy, saved: { gate, up }, attrs, wants }: Backward<Gated, Attrs>) => {
    if (!floats(gate, dy)) return undefined
    const dgate = wants('gate') ? output(gate.shape) : undefined
    const dup = wants('up') ? output(gate.shape) : undefined
    run({ x: gate, up, dy, dx: dgate, dup }, attrs)
    return { ...(dgate && { gate: dgate }), ...(dup && { up: dup }) }
  },
}

let done = false

/** the hyperbolic tangent by itself, which stock tfjs computes number by number (soft caps of logits) */
export const replaceTanh = (): void => {
  if (done) return
  done = true
  replace('Tanh', ([x], { heap }) => {
    const n = x!.shape.reduce((p, d) => p * d, 1)
    if (x!.dtype !== 'float32' || n < 4) return undefined
    const y = heap.makeOutput(x!.shape, 'float32')
    routines(module)!['tanh']!(addressOf(x!), 0, addressOf(y), 0, 0, 0, n)
    return y
  })
}
