import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output, routines } from '../../heap.ts'
import type { Backward, Faster } from '../../kernel.ts'
import * as module from '../../wasm/activation.generated.ts'
import type { Activation } from '../activation.ts'

type Attrs = { activation: Activation }
type Gated = { gate: Tensor; up: Tensor }

/** numbered as in assembly/activation.ts */
const kinds: readonly Activation[] = ['silu', 'gelu', 'gelu_tanh', 'relu', 'tanh']
const floats = (...xs: Tensor[]): boolean => xs.every((x) => x.dtype === 'float32' && x.size === xs[0]!.size)
const at = (t: Tensor | undefined): number => (t ? addressOf(t) : 0)
const call = (name: string, tensors: readonly (Tensor | undefined)[], n: number, { activation }: Attrs): void => {
  routines(module)![name]!(...tensors.map(at), n, kinds.indexOf(activation))
}

export const activate: Faster<{ x: Tensor }, Attrs> = {
  forward: ({ x }, attrs) => {
    if (!floats(x)) return undefined
    const y = output(x.shape)
    call('activate', [x, y], x.size, attrs)
    return y
  },
  gradient: ({ dy, saved: { x }, attrs }: Backward<{ x: Tensor }, Attrs>) => {
    if (!floats(x, dy)) return undefined
    const dx = output(x.shape)
    call('slope', [x, dy, dx], x.size, attrs)
    return { x: dx }
  },
}

export const glu: Faster<Gated, Attrs> = {
  forward: ({ gate, up }, attrs) => {
    if (!floats(gate, up)) return undefined
    const y = output(gate.shape)
    call('glu', [gate, up, y], gate.size, attrs)
    return y
  },
  gradient: ({ dy, saved: { gate, up }, attrs, wants }: Backward<Gated, Attrs>) => {
    if (!floats(gate, dy)) return undefined
    const dgate = wants('gate') ? output(gate.shape) : undefined
    const dup = wants('up') ? output(gate.shape) : undefined
    call('gluSlope', [gate, up, dy, dgate, dup], gate.size, attrs)
    return { ...(dgate && { gate: dgate }), ...(dup && { up: dup }) }
  },
}
