import type { Tensor } from '@tensorflow/tfjs-core'
import type { Faster } from '../../kernel.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, track } from './program.ts'

const THREADS = 64
const zero: Program = {
  name: 'zero',
  writes: ['y'],
  reads: [],
  uniforms: { size: 'u32' },
  threads: THREADS,
  body: `
  let i = (group.y * groups.x + group.x) * ${THREADS}u + local;
  if (i < u.size) { y[i] = 0.0; }`,
}

/**
 * One workgroup per place of the index. The first place of each row adds up the gradients of all its places in their
 * order, so that no two write to one row and the sum is the same each time; the others have nothing to do.
 */
const add: Program = {
  name: 'gather slope',
  writes: ['dw'],
  reads: ['dy', 'ids: i32'],
  uniforms: { count: 'u32', rows: 'u32', width: 'u32' },
  threads: THREADS,
  head: 'var<workgroup> before: atomic<u32>;',
  body: `
  let place = group.y * groups.x + group.x;
  if (place >= u.count) { return; }
  let id = ids[place];
  if (local == 0u) { atomicStore(&before, 0u); }
  workgroupBarrier();
  for (var i = local; i < place; i += ${THREADS}u) {
    if (ids[i] == id) { atomicStore(&before, 1u); }
  }
  workgroupBarrier();
  if (atomicLoad(&before) == 1u || u32(id) >= u.rows) { return; }
  for (var c = local; c < u.width; c += ${THREADS}u) {
    var sum = dy[place * u.width + c];
    for (var i = place + 1u; i < u.count; i++) {
      if (ids[i] == id) { sum += dy[i * u.width + c]; }
    }
    dw[u32(id) * u.width + c] = sum;
  }`,
}

export const gatherRows: Faster<{ w: Tensor; index: Tensor }, object> = {
  gradient: ({ dy, saved, shapes }, gpu: Gpu) => {
    const index = saved['index']!
    if (!plainFloats(gpu, dy) || index.dtype !== 'int32') return undefined
    const [rows, width] = shapes.w as [number, number]
    const [y] = dispatch(gpu, zero, {
      reads: [],
      writes: [[rows, width]],
      uniforms: [rows * width],
      groups: fold(gpu, Math.ceil((rows * width) / THREADS)),
    })
    const [dw] = dispatch(gpu, add, {
      reads: [dy, index],
      writes: [y!],
      uniforms: [index.size, rows, width],
      groups: fold(gpu, index.size),
    })
    return { w: track(dw!) }
  },
}
