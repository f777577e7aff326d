import type { Tensor } from '@tensorflow/tfjs-core'
import type { Backward, Faster } from '../../kernel.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, total, track } from './program.ts'

type Inputs = { x: Tensor; scale: Tensor; bias?: Tensor }
type Added = { h: Tensor; branch: Tensor; scale: Tensor; bias?: Tensor }
type Attrs = { eps: number }

const THREADS = 64
const ROW = `
  let row = group.y * groups.x + group.x;
  if (row >= u.rows) { return; }
  let base = row * u.width;`
/** mean (0 for RMSNorm) and r = 1/√(mean (x − mean)² + ε) of a row */
const statistics = (centred: boolean): string => `
  var first = 0.0;
  ${
    centred
      ? `for (var c = local; c < u.width; c += ${THREADS}u) { first += x[base + c]; }
  first = total(first, local) / f32(u.width);`
      : ''
  }
  var second = 0.0;
  for (var c = local; c < u.width; c += ${THREADS}u) { let d = x[base + c] - first; second += d * d; }
  let r = 1.0 / sqrt(total(second, local) / f32(u.width) + u.eps);`
const uniforms = { rows: 'u32', width: 'u32', eps: 'f32' } as const

/** one workgroup per row; with `added`, of x = h + branch, which is written too */
const normalize = (centred: boolean, added: boolean): Program => ({
  name: `normalize${centred ? ' centred' : ''}${added ? ' added' : ''}`,
  writes: [...(added ? ['x'] : []), 'y'],
  reads: [...(added ? ['h', 'branch'] : ['x']), 'scale', ...(centred ? ['bias'] : [])],
  uniforms,
  threads: THREADS,
  head: total(THREADS),
  // each thread reads again only what it has written
  body: `${ROW}${
    added
      ? `
  for (var c = local; c < u.width; c += ${THREADS}u) { x[base + c] = h[base + c] + branch[base + c]; }`
      : ''
  }${statistics(centred)}
  for (var c = local; c < u.width; c += ${THREADS}u) {
    y[base + c] = (x[base + c] - first) * r * scale[c]${centred ? ' + bias[c]' : ''};
  }`,
})

/** dx = r·(g − [mean g] − n·mean(g·n)) [+ dsum], g = dy·scale, n = (x − mean)·r; keeps mean and r of each row */
const slope = (centred: boolean, added: boolean): Program => ({
  name: `normalize slope${centred ? ' centred' : ''}${added ? ' added' : ''}`,
  writes: ['dx', 'rows'],
  reads: ['x', 'scale', 'dy', ...(added ? ['dsum'] : [])],
  uniforms,
  threads: THREADS,
  head: total(THREADS),
  body: `${ROW}${statistics(centred)}
  var plain = 0.0;
  var along = 0.0;
  for (var c = local; c < u.width; c += ${THREADS}u) {
    let g = dy[base + c] * scale[c];
    plain += g;
    along += g * (x[base + c] - first) * r;
  }
  ${centred ? 'plain = total(plain, local) / f32(u.width);' : 'plain = 0.0;'}
  along = total(along, local) / f32(u.width);
  for (var c = local; c < u.width; c += ${THREADS}u) {
    dx[base + c] = r * (dy[base + c] * scale[c] - plain - (x[base + c] - first) * r * along)${added ? ' + dsum[base + c]' : ''};
  }
  if (local == 0u) { rows[2u * row] = first; rows[2u * row + 1u] = r; }`,
})

const COLUMNS = 32
const SLICES = 8
/** Σ over rows of dy·n and of dy: 32 columns by 8 slices of the rows */
const columns: Program = {
  name: 'normalize columns',
  writes: ['dscale', 'dbias'],
  reads: ['x', 'dy', 'rows'],
  uniforms: { rows: 'u32', width: 'u32' },
  threads: COLUMNS * SLICES,
  head: `var<workgroup> parts: array<vec2f, ${COLUMNS * SLICES}>;`,
  body: `
  let c = group.x * ${COLUMNS}u + local % ${COLUMNS}u;
  var sums = vec2f();
  if (c < u.width) {
    for (var i = local / ${COLUMNS}u; i < u.rows; i += ${SLICES}u) {
      let d = dy[i * u.width + c];
      sums += vec2f(d * (x[i * u.width + c] - rows[2u * i]) * rows[2u * i + 1u], d);
    }
  }
  parts[local] = sums;
  workgroupBarrier();
  if (local < ${COLUMNS}u && c < u.width) {
    for (var s = 1u; s < ${SLICES}u; s++) { sums += parts[local + s * ${COLUMNS}u]; }
    dscale[c] = sums.x;
    dbias[c] = sums.y;
  }`,
}

const fits = (gpu: Gpu, x: Tensor, ...vectors: (Tensor | undefined)[]): boolean =>
  plainFloats(gpu, x, ...vectors) && vectors.every((v) => !v || v.size === x.shape.at(-1))

interface Slope {
  readonly x: Tensor
  readonly scale: Tensor
  readonly dy: Tensor
  readonly dsum?: Tensor
  readonly eps: number
  readonly centred: boolean
  readonly vectors: boolean
}
const slopes = (
  gpu: Gpu,
  { x, scale, dy, dsum, eps, centred, vectors }: Slope,
): { x: Tensor; scale?: Tensor; bias?: Tensor } | undefined => {
  if (!fits(gpu, x, scale) || !plainFloats(gpu, dy, dsum)) return undefined
  const width = x.shape.at(-1)!
  const rows = x.size / width
  const [dx, stats] = dispatch(gpu, slope(centred, Boolean(dsum)), {
    reads: [x, scale, dy, ...(dsum ? [dsum] : [])],
    writes: [x.shape, [rows, 2]],
    uniforms: [rows, width, eps],
    groups: fold(gpu, rows),
  }).map(track) as [Tensor, Tensor]
  if (!vectors) return { x: dx }
  const [dscale, dbias] = dispatch(gpu, columns, {
    reads: [x, dy, stats],
    writes: [scale.shape, [width]],
    uniforms: [rows, width],
    groups: [Math.ceil(width / COLUMNS)],
  }).map(track) as [Tensor, Tensor]
  return { x: dx, scale: dscale, ...(centred && { bias: dbias }) }
}

const norm = (centred: boolean): Faster<Inputs, Attrs> => ({
  forward: ({ x, scale, bias }, { eps }, gpu: Gpu) => {
    if (!fits(gpu, x, scale, bias)) return undefined
    const width = x.shape.at(-1)!
    const rows = x.size / width
    const [y] = dispatch(gpu, normalize(centred, false), {
      reads: bias ? [x, scale, bias] : [x, scale],
      writes: [x.shape],
      uniforms: [rows, width, eps],
      groups: fold(gpu, rows),
    })
    return track(y!)
  },
  gradient: ({ dy, saved, attrs: { eps }, wants }: Backward<Inputs, Attrs>, gpu: Gpu) => {
    const { x, scale } = saved as { x: Tensor; scale: Tensor }
    return slopes(gpu, { x, scale, dy, eps, centred, vectors: wants('scale') || wants('bias') })
  },
})

const added = (centred: boolean): Faster<Added, Attrs, [Tensor, Tensor]> => ({
  forward: ({ h, branch, scale, bias }, { eps }, gpu: Gpu) => {
    if (!fits(gpu, h, scale, bias) || !plainFloats(gpu, branch)) return undefined
    const width = h.shape.at(-1)!
    const rows = h.size / width
    return dispatch(gpu, normalize(centred, true), {
      reads: [h, branch, scale, ...(bias ? [bias] : [])],
      writes: [h.shape, h.shape],
      uniforms: [rows, width, eps],
      groups: fold(gpu, rows),
    }).map(track) as [Tensor, Tensor]
  },
  gradient: ({ dys: [dsum, dy], saved, attrs: { eps }, wants }: Backward<Added, Attrs>, gpu: Gpu) => {
    const { y: x, scale } = saved as unknown as { y: Tensor; scale: Tensor }
    const vectors = wants('scale') || wants('bias')
    const found = slopes(gpu, { x, scale, dy: dy!, dsum: dsum!, eps, centred, vectors })
    if (!found) return undefined
    const { x: dx, ...rest } = found
    return { ...rest, h: dx, branch: dx }
  },
})

export const rmsNorm: Faster<Inputs, Attrs> = norm(false)
export const layerNorm: Faster<Inputs, Attrs> = norm(true)
export const addRmsNorm: Faster<Added, Attrs, [Tensor, Tensor]> = added(false)
export const addLayerNorm: Faster<Added, Attrs, [Tensor, Tensor]> = added(true)
