import {
  getKernel,
  type KernelFunc,
  type NamedAttrMap,
  registerKernel,
  type TensorInfo,
  unregisterKernel,
} from '@tensorflow/tfjs-core'
import { dispatch, fold, type Gpu, type Program } from './program.ts'

/**
 * What tfjs's WebGPU backend does wrongly or roughly: int32 computed in float32, casts that only rename, transposes of
 * integers that do not compile, sin and cos as the driver has them (2⁻¹¹ off), NaN lost in exp and log.
 * Each kernel takes the calls it is for and leaves the rest to tfjs's.
 */

const THREADS = 64
const sizeOf = (shape: readonly number[]): number => shape.reduce((p, n) => p * n, 1)

/** what lies in the buffer; a tensor's own dtype may say otherwise */
const stored = (gpu: Gpu, { dataId }: TensorInfo): string => gpu.tensorMap.get(dataId).dtype

type Replace = (gpu: Gpu, inputs: TensorInfo[], attrs: Readonly<Record<string, unknown>>) => TensorInfo | undefined
const replace = (kernelName: string, names: readonly string[], ours: Replace): void => {
  const stock = getKernel(kernelName, 'webgpu')
  unregisterKernel(kernelName, 'webgpu')
  const kernelFunc: KernelFunc = (call) => {
    const inputs = names.map((n) => call.inputs[n] as TensorInfo)
    const attrs = (call.attrs ?? {}) as NamedAttrMap as Record<string, unknown>
    const isEmpty = inputs.some((t) => sizeOf(t.shape) === 0 || t.shape.length > 8)
    return (isEmpty ? undefined : ours(call.backend as unknown as Gpu, inputs, attrs)) ?? stock.kernelFunc(call)
  }
  registerKernel({ ...stock, kernelFunc })
}

/** one thread per element i of the output */
const each = (
  name: string,
  type: 'f32' | 'i32' | 'u32',
  reads: readonly string[],
  uniforms: Program['uniforms'],
  body: string,
  head = '',
): Program => ({
  name: `exact ${name}`,
  writes: [`y: ${type}`],
  reads,
  uniforms: { size: 'u32', ...uniforms },
  threads: THREADS,
  head,
  body: `
  let i = (group.y * groups.x + group.x) * ${THREADS}u + local;
  if (i >= u.size) { return; }
  ${body}`,
})
const run = (
  gpu: Gpu,
  program: Program,
  reads: TensorInfo[],
  shape: readonly number[],
  dtype: string,
  uniforms: readonly (number | number[])[] = [],
): TensorInfo => {
  const size = sizeOf(shape)
  const groups = fold(gpu, Math.ceil(size / THREADS))
  return dispatch(gpu, program, { reads, writes: [{ shape, dtype }], uniforms: [size, ...uniforms], groups })[0]!
}

const eight = (values: readonly number[], fill: number): [number[], number[]] => {
  const all = [...Array<number>(8 - values.length).fill(fill), ...values]
  return [all.slice(0, 4), all.slice(4)]
}
const strides = (shape: readonly number[]): number[] => shape.map((_, i) => sizeOf(shape.slice(i + 1)))
/** strides of `shape` within `out`, 0 where it broadcasts */
const spread = (shape: readonly number[], out: readonly number[]): number[] => {
  const own = strides(shape)
  return out.map((_, i) => {
    const at = i - (out.length - shape.length)
    return at < 0 || shape[at] === 1 ? 0 : own[at]!
  })
}
/** element i of the output → elements of up to two inputs; up to eight axes */
const walk = {
  uniforms: { outer: 'vec4u', inner: 'vec4u', outerA: 'vec4u', innerA: 'vec4u', outerB: 'vec4u', innerB: 'vec4u' },
  head: `
fn walk(i: u32) -> vec2u {
  var rest = i;
  var found = vec2u();
  for (var d = 3; d >= 0; d--) {
    let at = rest % u.inner[d];
    rest = rest / u.inner[d];
    found += at * vec2u(u.innerA[d], u.innerB[d]);
  }
  for (var d = 3; d >= 0; d--) {
    let at = rest % u.outer[d];
    rest = rest / u.outer[d];
    found += at * vec2u(u.outerA[d], u.outerB[d]);
  }
  return found;
}`,
} as const
const walked = (out: readonly number[], a: readonly number[], b: readonly number[] = []): number[][] => [
  ...eight(out, 1),
  ...eight(a, 0),
  ...eight(b, 0),
]

const TRIG = `
// x − k·π/2 in three parts, each exact for |x| < 10⁴; Cephes's polynomials on [−π/4, π/4]
fn turned(x: f32, quarters: i32) -> f32 {
  let k = round(x * 0.636619772);
  let r = ((x - k * 1.5703125) - k * 4.837512969970703125e-4) - k * 7.54978994876e-8;
  let q = (i32(k) + quarters) & 3;
  let s = r * r;
  let sine = r + r * s * (-0.16666654611 + s * (0.0083321608736 - s * 0.00019515295891));
  let cosine = 1.0 - 0.5 * s + s * s * (0.041666645683 + s * (-0.0013887316255 + s * 0.00002443315712));
  let size = select(sine, cosine, (q & 1) == 1);
  return select(size, -size, q > 1);
}`
const NOT = 'let hidden = (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;'
const UNARY: Record<string, [body: string, head?: string]> = {
  Sin: ['y[i] = turned(x[i], 0);', TRIG],
  Cos: ['y[i] = turned(x[i], 1);', TRIG],
  Exp: [`let v = x[i]; ${NOT} y[i] = select(exp(v), u.nan, hidden);`],
  Log: [`let v = x[i]; ${NOT} y[i] = select(select(log(v), -u.infinity, v == 0.0), u.nan, hidden || v < 0.0);`],
}
const BINARY: Record<string, [expression: string, isBool?: boolean]> = {
  Add: ['a + b'],
  Sub: ['a - b'],
  Multiply: ['a * b'],
  Maximum: ['max(a, b)'],
  Minimum: ['min(a, b)'],
  Equal: ['select(0, 1, a == b)', true],
  NotEqual: ['select(0, 1, a != b)', true],
  Greater: ['select(0, 1, a > b)', true],
  GreaterEqual: ['select(0, 1, a >= b)', true],
  Less: ['select(0, 1, a < b)', true],
  LessEqual: ['select(0, 1, a <= b)', true],
}

export const replaceInexact = (): void => {
  for (const [name, [body, head]] of Object.entries(UNARY)) {
    const program = each(name, 'f32', ['x'], { nan: 'f32', infinity: 'f32' }, body, head)
    replace(name, ['x'], (gpu, [x]) =>
      x!.dtype === 'float32' && stored(gpu, x!) === 'float32'
        ? run(gpu, program, [x!], x!.shape, 'float32', [Number.NaN, Number.POSITIVE_INFINITY])
        : undefined,
    )
  }
  for (const [name, [expression, isBool]] of Object.entries(BINARY)) {
    const body = `let at = walk(i); let a = left[at.x]; let b = right[at.y]; y[i] = ${expression};`
    const program = each(name, 'i32', ['left: i32', 'right: i32'], walk.uniforms, body, walk.head)
    replace(name, ['a', 'b'], (gpu, [a, b]) => {
      if (a!.dtype !== 'int32' || b!.dtype !== 'int32') return undefined
      const rank = Math.max(a!.shape.length, b!.shape.length)
      const [sa, sb] = [a!, b!].map((t) => [...Array<number>(rank - t.shape.length).fill(1), ...t.shape])
      const out = sa!.map((n, i) => (n === 1 ? sb![i]! : n))
      const uniforms = walked(out, spread(a!.shape, out), spread(b!.shape, out))
      return run(gpu, program, [a!, b!], out, isBool ? 'bool' : 'int32', uniforms)
    })
  }
  const toFloat = each('cast', 'f32', ['x: i32'], {}, 'y[i] = f32(x[i]);')
  replace('Cast', ['x'], (gpu, [x], { dtype }) =>
    dtype === 'float32' && (x!.dtype === 'int32' || x!.dtype === 'bool')
      ? run(gpu, toFloat, [x!], x!.shape, 'float32')
      : undefined,
  )
  const transpose = each('transpose', 'u32', ['x: u32'], walk.uniforms, 'y[i] = x[walk(i).x];', walk.head)
  replace('Transpose', ['x'], (gpu, [x], { perm }) => {
    if (x!.dtype !== 'int32' && x!.dtype !== 'bool') return undefined
    const axes = perm as number[]
    const own = strides(x!.shape)
    const out = axes.map((a) => x!.shape[a]!)
    const uniforms = walked(
      out,
      axes.map((a) => own[a]!),
    )
    return run(gpu, transpose, [x!], out, x!.dtype, uniforms)
  })
  // tfjs's reductions transpose inside, where integers do not compile
  for (const name of ['Sum', 'Max', 'Min', 'Prod', 'Cumsum']) {
    const stock = getKernel(name, 'webgpu').kernelFunc
    const toInt = getKernel('Cast', 'webgpu').kernelFunc
    replace(name, ['x'], (gpu, [x], attrs) => {
      if (x!.dtype !== 'int32' && x!.dtype !== 'bool') return undefined
      const floats = run(gpu, toFloat, [x!], x!.shape, 'float32')
      const y = stock({ inputs: { x: floats }, backend: gpu, attrs: attrs as NamedAttrMap }) as TensorInfo
      const found = toInt({ inputs: { x: y }, backend: gpu, attrs: { dtype: 'int32' } }) as TensorInfo
      gpu.disposeData(floats.dataId)
      gpu.disposeData(y.dataId)
      return found
    })
  }
  // bit for bit, whatever the dtype; 0 for an index outside
  const gather = each(
    'gather',
    'u32',
    ['x: u32', 'ids: i32'],
    { count: 'u32', rows: 'u32', width: 'u32' },
    `let part = i / u.width;
  let id = u32(ids[part % u.count]);
  let at = (part / u.count * u.rows + min(id, u.rows - 1u)) * u.width + i % u.width;
  y[i] = select(0u, x[at], id < u.rows);`,
  )
  replace('GatherV2', ['x', 'indices'], (gpu, [x, indices], { axis, batchDims }) => {
    if (batchDims || indices!.dtype !== 'int32' || x!.dtype === 'string' || x!.dtype === 'complex64') return undefined
    const at = (axis as number) < 0 ? (axis as number) + x!.shape.length : (axis as number)
    const shape = [...x!.shape.slice(0, at), ...indices!.shape, ...x!.shape.slice(at + 1)]
    const uniforms = [sizeOf(indices!.shape), x!.shape[at]!, sizeOf(x!.shape.slice(at + 1))]
    return run(gpu, gather, [x!, indices!], shape, x!.dtype, uniforms)
  })
}
