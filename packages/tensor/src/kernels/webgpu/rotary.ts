import type { Tensor } from '@tensorflow/tfjs-core'
import type { Faster } from '../../kernel.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats, track } from './program.ts'

type Inputs = { x: Tensor; cos: Tensor; sin: Tensor }
/** rows of S numbers as [B, H, T], or as a product leaves them */
type Layout = 'heads first' | 'tokens first'

const rowOf: Record<Layout, string> = {
  'heads first': '(b * u.heads + h) * u.length + t',
  'tokens first': '(b * u.length + t) * u.heads + h',
}

/** one thread per pair (a, b) → (a·cos − b·sin, b·cos + a·sin) in the order of what is written; turn −1 goes back */
const program = (from: Layout, to: Layout): Program => ({
  name: `rotary ${from} to ${to}`,
  writes: ['y'],
  reads: ['x', 'cosine', 'sine'],
  uniforms: { pairs: 'u32', half: 'u32', heads: 'u32', length: 'u32', batches: 'u32', turn: 'f32' },
  threads: 64,
  body: `
  let pair = (group.y * groups.x + group.x) * 64u + local;
  if (pair >= u.pairs) { return; }
  let j = pair % u.half;
  let row = pair / u.half;
  let b = row / (u.heads * u.length);
  ${
    to === 'heads first'
      ? 'let t = row % u.length; let h = row / u.length % u.heads;'
      : 'let h = row % u.heads; let t = row / u.heads % u.length;'
  }
  let source = 2u * (${rowOf[from]}) * u.half + j;
  let here = 2u * row * u.half + j;
  let at = (select(0u, b, u.batches > 1u) * u.length + t) * u.half + j;
  let c = cosine[at];
  let s = sine[at] * u.turn;
  let first = x[source];
  let second = x[source + u.half];
  y[here] = first * c - second * s;
  y[here + u.half] = second * c + first * s;`,
})

interface Turn extends Inputs {
  readonly from: Layout
  readonly to: Layout
  readonly heads: number
  readonly by: 1 | -1
}
const turn = (gpu: Gpu, { x, cos, sin, from, to, heads, by }: Turn): Tensor | undefined => {
  if (!plainFloats(gpu, x, cos, sin)) return undefined
  const B = x.shape[0]!
  const [T, S] = from === 'heads first' ? (x.shape.slice(2) as [number, number]) : [x.shape[1]!, x.shape[2]! / heads]
  const table = (T * S) / 2
  // [1 or B, 1, T, S/2], or without the leading ones
  if (S % 2 || cos.size !== sin.size || (cos.size !== table && (cos.size !== B * table || cos.shape[1] !== 1)))
    return undefined
  const [y] = dispatch(gpu, program(from, to), {
    reads: [x, cos, sin],
    writes: [to === 'heads first' ? [B, heads, T, S] : [B, T, heads * S]],
    uniforms: [x.size / 2, S / 2, heads, T, cos.size / table, by],
    groups: fold(gpu, Math.ceil(x.size / 2 / 64)),
  })
  return track(y!)
}

export const rotary: Faster<Inputs, object> = {
  forward: ({ x, cos, sin }, _, gpu: Gpu) =>
    x.rank === 4
      ? turn(gpu, { x, cos, sin, from: 'heads first', to: 'heads first', heads: x.shape[1]!, by: 1 })
      : undefined,
  gradient: ({ dy, saved: { cos, sin } }, gpu: Gpu) => {
    if (dy.rank !== 4) return undefined
    const x = turn(gpu, { x: dy, cos, sin, from: 'heads first', to: 'heads first', heads: dy.shape[1]!, by: -1 })
    return x && { x }
  },
}

export const rotaryHeads: Faster<Inputs, { heads: number }> = {
  forward: ({ x, cos, sin }, { heads }, gpu: Gpu) =>
    turn(gpu, { x, cos, sin, from: 'tokens first', to: 'heads first', heads, by: 1 }),
  gradient: ({ dy, saved: { cos, sin }, attrs: { heads } }, gpu: Gpu) => {
    const x = turn(gpu, { x: dy, cos, sin, from: 'heads first', to: 'tokens first', heads, by: -1 })
    return x && { x }
  },
}
