import type { Tensor } from '@tensorflow/tfjs-core'
import type { Faster } from '../../kernel.ts'
import type { Activation } from '../activation.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, track } from './program.ts'

type Attrs = { activation: Activation }

// large arguments would overflow inside tanh and exp on some drivers, where the result is 1 or 0 long before
const SAFE = `
fn tanhOf(x: f32) -> f32 { return tanh(clamp(x, -12.0, 12.0)); }
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0))); }
// Abramowitz & Stegun 7.1.26, |error| < 1.5e-7, as tfjs has it
fn erfOf(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.3275911 * abs(x));
  let s = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return sign(x) * (1.0 - s * exp(-min(x * x, 80.0)));
}
fn bent(x: f32) -> f32 { return tanhOf(0.7978845608 * (x + 0.044715 * x * x * x)); }`

/** each activation and its derivative, in WGSL */
const FORMS: Record<Activation, { f: string; df: string }> = {
  silu: { f: 'return x * sigmoid(x);', df: 'let s = sigmoid(x); return s + x * s * (1.0 - s);' },
  gelu: {
    f: 'return 0.5 * x * (1.0 + erfOf(x * 0.7071067812));',
    df: 'return 0.5 * (1.0 + erfOf(x * 0.7071067812)) + x * exp(-min(0.5 * x * x, 80.0)) * 0.3989422804;',
  },
  gelu_tanh: {
    f: 'return 0.5 * x * (1.0 + bent(x));',
    df: 'let t = bent(x); return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978845608 * (1.0 + 0.134145 * x * x);',
  },
  relu: { f: 'return max(x, 0.0);', df: 'return select(0.0, 1.0, x > 0.0);' },
  tanh: { f: 'return tanhOf(x);', df: 'let t = tanhOf(x); return 1.0 - t * t;' },
}

/** one thread per element i of equally shaped tensors */
const each = (name: Activation, label: string, writes: string[], reads: string[], body: string): Program => ({
  name: `${label} ${name}`,
  writes,
  reads,
  uniforms: { size: 'u32' },
  threads: 64,
  head: `${SAFE}
fn f(x: f32) -> f32 { ${FORMS[name].f} }
fn df(x: f32) -> f32 { ${FORMS[name].df} }`,
  body: `
  let i = (group.y * groups.x + group.x) * 64u + local;
  if (i >= u.size) { return; }
  ${body}`,
})

const run = (gpu: Gpu, program: Program, reads: Tensor[]): Tensor[] | undefined => {
  const { shape, size } = reads[0]!
  if (!plainFloats(gpu, ...reads) || reads.some((t) => t.shape.join() !== shape.join())) return undefined
  return dispatch(gpu, program, {
    reads,
    writes: program.writes.map(() => shape),
    uniforms: [size],
    groups: fold(gpu, Math.ceil(size / 64)),
  }).map(track)
}

export const activate: Faster<{ x: Tensor }, Attrs> = {
  forward: ({ x }, { activation }, gpu: Gpu) =>
    run(gpu, each(activation, 'activation', ['y'], ['x'], 'y[i] = f(x[i]);'), [x])?.[0],
  gradient: ({ dy, saved: { x }, attrs: { activation } }, gpu: Gpu) => {
    const program = each(activation, 'activation slope', ['dx'], ['x', 'dy'], 'dx[i] = dy[i] * df(x[i]);')
    const [dx] = run(gpu, program, [x, dy]) ?? []
    return dx && { x: dx }
  },
}

export const glu: Faster<{ gate: Tensor; up: Tensor }, Attrs> = {
  forward: ({ gate, up }, { activation }, gpu: Gpu) =>
    run(gpu, each(activation, 'glu', ['y'], ['gate', 'up'], 'y[i] = f(gate[i]) * up[i];'), [gate, up])?.[0],
  gradient: ({ dy, saved: { gate, up }, attrs: { activation }, wants }, gpu: Gpu) => {
    if (!wants('gate')) {
      const program = each(activation, 'glu slope of up', ['dup'], ['gate', 'dy'], 'dup[i] = dy[i] * f(gate[i]);')
      const [dup] = run(gpu, program, [gate, dy]) ?? []
      return dup && { up: dup }
    }
    const body = 'let g = gate[i]; dgate[i] = dy[i] * up[i] * df(g); dup[i] = dy[i] * f(g);'
    const program = each(activation, 'glu slope', ['dgate', 'dup'], ['gate', 'up', 'dy'], body)
    const [dgate, dup] = run(gpu, program, [gate, up, dy]) ?? []
    return dgate && dup && { gate: dgate, up: dup }
  },
}
