import type { BlockShape, Params, Rng, RunContext, Tensor, Tensor2D } from '@weftjs/spec'
import {
  add,
  attention,
  cast,
  equal,
  expandDims,
  gatherRows,
  glu,
  linear,
  mul,
  ones,
  range,
  reshape,
  rmsNorm,
  rotary,
  sub,
  tensor,
  transpose,
} from '@weftjs/tensor'
import { kaiming } from './start.ts'

/** A block of Llama's kind, whatever the model's: with as many heads, and narrower. */
export interface SideBlock extends Record<string, Tensor> {
  norm1: Tensor
  q: Tensor2D
  k: Tensor2D
  v: Tensor2D
  o: Tensor2D
  norm2: Tensor
  gate: Tensor2D
  up: Tensor2D
  down: Tensor2D
}

const shapes = (width: number, { heads, kvHeads }: BlockShape, hidden: number): Record<keyof SideBlock, number[]> => {
  const kv = (width / heads) * kvHeads
  return {
    ...{ norm1: [width], q: [width, width], k: [kv, width], v: [kv, width], o: [width, width] },
    ...{ norm2: [width], gate: [hidden, width], up: [hidden, width], down: [width, hidden] },
  }
}
export const sideBlockCount = (width: number, block: BlockShape, hidden: number): number =>
  Object.values(shapes(width, block, hidden)).reduce((n, s) => n + s.reduce((a, b) => a * b), 0)

export const sideBlockStart = (rng: Rng, width: number, block: BlockShape, hidden: number): SideBlock =>
  Object.fromEntries(
    Object.entries(shapes(width, block, hidden)).map(([key, shape]) => [
      key,
      shape.length === 1 ? ones(shape) : kaiming(rng.fork(key), shape),
    ]),
  ) as unknown as SideBlock

/** −1e9 where a key is hidden, by the mask [B, K] and the segments [B, T] of the batch */
const hidden = ({ mask, segments }: Params): Tensor | undefined => {
  const seen = [
    segments && expandDims(equal(expandDims(segments, 2), expandDims(segments, 1)), 1), // [B, 1, T, T]
    mask && expandDims(expandDims(mask, 1), 1), // [B, 1, 1, K]
  ].filter((s) => s !== undefined)
  return seen
    .map((s) => mul(sub(1, cast(s, 'float32')), -1e9))
    .reduce<Tensor | undefined>((a, b) => (a ? add(a, b) : b), undefined)
}

/** cos and sin [B or 1, 1, T, S/2] of the places of T tokens among K */
const turns = (
  theta: number,
  S: number,
  T: number,
  K: number,
  positions: Tensor | undefined,
): { cos: Tensor; sin: Tensor } => {
  const at = positions ?? expandDims(range(K - T, K, 1, 'int32'), 0) // [B, T]
  const table = (f: (x: number) => number): Tensor =>
    tensor(
      Float32Array.from({ length: (K * S) / 2 }, (_, i) =>
        f(Math.floor(i / (S / 2)) * theta ** ((-2 * (i % (S / 2))) / S)),
      ),
      [K, S / 2],
    )
  const pick = (t: Tensor): Tensor => reshape(gatherRows(t, reshape(at, [-1])), [at.shape[0]!, 1, T, S / 2])
  return { cos: pick(table(Math.cos)), sin: pick(table(Math.sin)) }
}

/** x + Attn(norm(x)), then x + MLP(norm(x)): x [B, T, width], among the tokens before it where a text is generated */
export const sideBlock = (x: Tensor, s: SideBlock, ctx: RunContext): Tensor => {
  const { heads, kvHeads, causal, theta } = ctx.site.block!
  const [B, T, width] = x.shape as [number, number, number]
  const S = width / heads
  const split = (t: Tensor, n: number): Tensor => transpose(reshape(t, [B, T, n, S]), [0, 2, 1, 3]) // [B, n, T, S]
  const n1 = rmsNorm(x, s.norm1)
  const tables = theta === undefined ? undefined : turns(theta, S, T, (ctx.past ?? 0) + T, ctx.inputs['positions'])
  const turned = (t: Tensor, n: number): Tensor => (tables ? rotary(split(t, n), tables.cos, tables.sin) : split(t, n))
  const own = { k: turned(linear(n1, s.k), kvHeads), v: split(linear(n1, s.v), kvHeads) }
  const { k, v } = ctx.extend?.('side', own.k, own.v) ?? own
  const y = attention(turned(linear(n1, s.q), heads), k, v, hidden(ctx.inputs), { causal })
  const after = add(x, linear(reshape(transpose(y, [0, 2, 1, 3]), [B, T, width]), s.o))
  const n2 = rmsNorm(after, s.norm2)
  return add(after, linear(glu(linear(n2, s.gate), linear(n2, s.up), 'silu'), s.down))
}
