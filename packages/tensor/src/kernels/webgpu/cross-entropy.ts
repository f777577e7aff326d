import { sum, type Tensor } from '@tensorflow/tfjs-core'
import type { RowsResult } from '../cross-entropy.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, total, track } from './program.ts'

const THREADS = 128
const ROW = `
  let row = group.y * groups.x + group.x;
  if (row >= u.rows) { return; }
  let base = row * u.width;`

/** log Σ exp z of each row in one pass (each thread keeps its own largest), and its weighted loss */
const losses: Program = {
  name: 'cross-entropy losses',
  writes: ['loss', 'logs'],
  reads: ['z', 'targets: i32', 'weights'],
  uniforms: { rows: 'u32', width: 'u32' },
  threads: THREADS,
  head: `${total(THREADS)}
var<workgroup> tops: array<f32, ${THREADS}>;
fn largest(value: f32, local: u32) -> f32 {
  tops[local] = value;
  workgroupBarrier();
  for (var step = ${THREADS / 2}u; step > 0u; step >>= 1u) {
    if (local < step) { tops[local] = max(tops[local], tops[local + step]); }
    workgroupBarrier();
  }
  let found = tops[0];
  workgroupBarrier();
  return found;
}`,
  body: `${ROW}
  var top = -3.0e38;
  var sum = 0.0;
  for (var c = local; c < u.width; c += ${THREADS}u) {
    let v = z[base + c];
    if (v > top) { sum *= exp(top - v); top = v; }
    sum += exp(v - top);
  }
  let highest = largest(top, local);
  let whole = total(sum * exp(top - highest), local);
  if (local == 0u) {
    let logZ = log(whole) + highest;
    logs[row] = logZ;
    loss[row] = select((logZ - z[base + u32(targets[row])]) * weights[row], 0.0, weights[row] == 0.0);
  }`,
}

/** dz = (exp(z − log Z) − onehot)·weight, over z */
const slopes: Program = {
  name: 'cross-entropy slopes',
  writes: ['z'],
  reads: ['logs', 'targets: i32', 'weights'],
  uniforms: { size: 'u32', width: 'u32' },
  threads: 64,
  body: `
  let i = (group.y * groups.x + group.x) * 64u + local;
  if (i >= u.size) { return; }
  let row = i / u.width;
  let hit = select(0.0, 1.0, i % u.width == u32(targets[row]));
  z[i] = select((exp(z[i] - logs[row]) - hit) * weights[row], 0.0, weights[row] == 0.0);`,
}

/** of z [n, V]: the weighted loss and, if asked for, the gradient in the place of z, which must be ours alone */
export const rowsOnGpu = (
  gpu: Gpu,
  z: Tensor,
  targets: Tensor,
  weights: Tensor,
  slope: boolean,
): RowsResult | undefined => {
  if (!plainFloats(gpu, z, weights) || targets.dtype !== 'int32') return undefined
  const [rows, width] = z.shape as [number, number]
  const [loss, logs] = dispatch(gpu, losses, {
    reads: [z, targets, weights],
    writes: [[rows], [rows]],
    uniforms: [rows, width],
    groups: fold(gpu, rows),
  }).map(track) as [Tensor, Tensor]
  if (slope)
    dispatch(gpu, slopes, {
      reads: [logs, targets, weights],
      writes: [z],
      uniforms: [z.size, width],
      groups: fold(gpu, Math.ceil(z.size / 64)),
    })
  return { loss: sum(loss), dz: slope ? z : undefined }
}
