import type { Tensor } from '@tensorflow/tfjs-core'
import type { Faster } from '../../kernel.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, track } from './program.ts'

type Inputs = { x: Tensor; cos: Tensor; sin: Tensor }

/** one thread per pair (a, b) → (a·cos − b·sin, b·cos + a·sin); turn −1 goes back */
const program: Program = {
  name: 'rotary',
  writes: ['y'],
  reads: ['x', 'cosine', 'sine'],
  // rows of one batch entry: heads · length; the tables repeat after `period` rows of one head
  uniforms: { pairs: 'u32', half: 'u32', heads: 'u32', length: 'u32', batches: 'u32', turn: 'f32' },
  threads: 64,
  body: `
  let pair = (group.y * groups.x + group.x) * 64u + local;
  if (pair >= u.pairs) { return; }
  let j = pair % u.half;
  let row = pair / u.half;
  let batch = select(0u, row / (u.heads * u.length), u.batches > 1u);
  let at = (batch * u.length + row % u.length) * u.half + j;
  let here = 2u * row * u.half + j;
  let c = cosine[at];
  let s = sine[at] * u.turn;
  let a = x[here];
  let b = x[here + u.half];
  y[here] = a * c - b * s;
  y[here + u.half] = b * c + a * s;`,
}

const turn = (x: Tensor, cos: Tensor, sin: Tensor, by: 1 | -1, gpu: Gpu): Tensor | undefined => {
  if (x.rank !== 4 || !plainFloats(gpu, x, cos, sin)) return undefined
  const [B, H, T, S] = x.shape as [number, number, number, number]
  const table = (T * S) / 2
  // [1 or B, 1, T, S/2], or without the leading ones
  if (S % 2 || cos.size !== sin.size || (cos.size !== table && (cos.size !== B * table || cos.shape[1] !== 1)))
    return undefined
  const [y] = dispatch(gpu, program, {
    reads: [x, cos, sin],
    writes: [x.shape],
    uniforms: [x.size / 2, S / 2, H, T, cos.size / table, by],
    groups: fold(gpu, Math.ceil(x.size / 2 / 64)),
  })
  return track(y!)
}

export const rotary: Faster<Inputs, object> = {
  forward: ({ x, cos, sin }, _, gpu: Gpu) => turn(x, cos, sin, 1, gpu),
  gradient: ({ dy, saved }, gpu: Gpu) => {
    const x = turn(dy, saved['cos']!, saved['sin']!, -1, gpu)
    return x && { x }
  },
}
