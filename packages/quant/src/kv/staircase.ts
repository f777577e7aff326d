import type { Tensor } from '@weftjs/spec'
import { concat, dispose, gather, keep, slice, tensor1d, tidy } from '@weftjs/tensor'
import { type Coded, decodeGroups, encodeGroups, type Groups, type KvBits, moveUnits } from './groups.ts'

/** One step of the staircase. */
export interface KvStep {
  readonly bits: KvBits
  /** tokens of a lower age are here; the last step has none */
  readonly until?: number
}
export interface KvStaircaseOptions {
  /** R: so many of the newest tokens stay as they are */
  readonly window?: number
  /** g tokens of a channel share a scale, or so many channels of a token */
  readonly group?: number
  /** bits by age, fewer from step to step */
  readonly steps?: readonly KvStep[]
  /** keys have large channels, which `token` does not tell apart; but then no token has to wait for its group */
  readonly keys?: 'channel' | 'token'
}

/** Keys and values of one layer, as `generate` of @weftjs/model asks for them by its option `cache`. */
export interface KvPacked {
  /** that it holds now */
  readonly bytes: number
  /** tokens that are held in full, and in each step */
  readonly tokens: readonly number[]
  extend(k: Tensor, v: Tensor): { k: Tensor; v: Tensor; keys: number }
  select(rows: readonly number[]): void
  dispose(): void
}

const BITS: readonly number[] = [2, 4, 8, 16, 32]

const check = ({ window, group, steps, keys }: Required<KvStaircaseOptions>): void => {
  const fail = (what: string): never => {
    throw new Error(`kvStaircase: ${what}`)
  }
  if (!Number.isInteger(group) || group < 1) fail(`group must be a whole number of at least 1, found ${group}`)
  if (!Number.isInteger(window) || window < 0 || window % group)
    fail(`window must be a multiple of the group of ${group} tokens, found ${window}`)
  if (keys !== 'channel' && keys !== 'token') fail(`keys must be 'channel' or 'token', found ${JSON.stringify(keys)}`)
  if (!steps.length) fail('steps must name at least one format; for full precision leave the cache out')
  let age = window
  for (const [i, { bits, until }] of steps.entries()) {
    if (!BITS.includes(bits)) fail(`step ${i}: bits must be 2, 4, 8, 16 or 32, found ${bits}`)
    if (i && bits > steps[i - 1]!.bits)
      fail(`step ${i}: ${bits} bits after ${steps[i - 1]!.bits}; older tokens cannot have more`)
    if (i === steps.length - 1) {
      if (until !== undefined) fail(`step ${i}: the last step has no "until"; whatever is older is in it`)
    } else {
      if (until === undefined || until % group || until <= age)
        fail(`step ${i}: until must be a multiple of ${group} above ${age}, found ${until}`)
      age = until!
    }
  }
}

/** n groups of one step, oldest first */
interface Segment {
  readonly count: number
  readonly k: Coded
  readonly v: Coded
}

/**
 * A cache of keys and values in which bits fall in steps with a token's age: keys by channel over g tokens, values by token
 * over g channels, scales and minima in float16  —  staircase: SAQ; groups: Liu et al. (KIVI), arXiv:2402.02750
 *
 * A group goes down a step when its newest token is old enough, and is coded from what it was, so its error grows by one
 * rounding a step. SAQ's steps are followed from its abstract, there being no code. Nothing but this pass's tokens and those
 * decoded for it is in full precision: that is what attention reads. `steps: [{ bits: 8 }], keys: 'token', window: 0` is the
 * plain int8 cache. A text of the batch that begins with padding shares scales with it.
 *
 * That bits should fall with age, as SAQ says, does not show on mini: within 400 tokens 8, 4 and 2 bits, 4 on average, are off
 * by a KL of 0.03 to 0.06 for the next token, 4 bits for all by 0.002 to 0.006. What is old is worth its bits there.
 *
 * `generate(tuned, prompts, { cache: kvStaircase() })`
 */
export const kvStaircase = (options: KvStaircaseOptions = {}): ((limit: number) => KvPacked) => {
  const {
    window = 128,
    group = 32,
    steps = [{ bits: 8, until: 1024 }, { bits: 4, until: 4096 }, { bits: 2 }],
    keys = 'channel',
  } = options
  check({ window, group, steps, keys })
  return (limit) => {
    let shape: { texts: number; heads: number; width: number; values: number } | undefined
    /** [B, G, tokens, S] */
    let tail: { k: Tensor; v: Tensor } | undefined
    let segments: (Segment | undefined)[] = steps.map(() => undefined)
    const at = (which: 'k' | 'v', step: number, count: number): Groups => ({
      bits: steps[step]!.bits,
      texts: shape!.texts,
      heads: shape!.heads,
      width: which === 'k' ? shape!.width : shape!.values,
      tokens: group,
      count,
      channels: which === 'k' && keys === 'channel' ? 0 : Math.min(group, which === 'k' ? shape!.width : shape!.values),
    })
    const both = <T>(f: (which: 'k' | 'v') => T): { k: T; v: T } => ({ k: f('k'), v: f('v') })
    const tokensOf = (t: Tensor | undefined): number => t?.shape[2] ?? 0
    const part = (t: Tensor, from: number, n: number): Tensor =>
      slice(t, [0, 0, from, 0], [t.shape[0]!, t.shape[1]!, n, t.shape[3]!])
    const dense = (which: 'k' | 'v', step: number, s: Segment): Tensor =>
      decodeGroups(s[which], at(which, step, s.count))
    /** units of groups [from, from + n) */
    const units = (from: number, n: number): number[] =>
      Array.from({ length: n * shape!.texts }, (_, i) => from * shape!.texts + i)
    const cut = (s: Segment, step: number, from: number, n: number): Segment | undefined =>
      n <= 0
        ? undefined
        : n === s.count
          ? s
          : { count: n, ...both((w) => moveUnits(s[w], undefined, units(from, n), at(w, step, n))) }
    const put = (s: Segment | undefined, step: number, x: { k: Tensor; v: Tensor }): Segment => {
      const n = tokensOf(x.k) / group
      const coded = { count: n, ...both((w) => encodeGroups(x[w], at(w, step, n))) }
      if (!s) return coded
      const count = s.count + n
      return { count, ...both((w) => moveUnits(s[w], coded[w], units(0, count), at(w, step, count))) }
    }
    /** what is old enough goes down */
    const age = (): void => {
      const out = Math.max(0, Math.floor((tokensOf(tail?.k) - window) / group))
      if (!out) return
      let down: { k: Tensor; v: Tensor } | undefined = both((w) => part(tail![w], 0, out * group))
      tail = both((w) => part(tail![w], out * group, tokensOf(tail![w]) - out * group))
      let newer = tokensOf(tail.k)
      for (let i = 0; i < steps.length && down; i++) {
        const here: Segment = put(segments[i], i, down)
        const { until = Number.POSITIVE_INFINITY } = steps[i]!
        // the oldest group's newest token has the age newer + (count − 1)·g
        const stay = Math.min(here.count, Math.max(0, Math.ceil((until - newer) / group)))
        const oldest = cut(here, i, 0, here.count - stay)
        down = oldest && both((w) => dense(w, i, oldest))
        segments[i] = cut(here, i, here.count - stay, stay)
        newer += stay * group
      }
    }
    /** whole groups, and of what is in full any token, that no later query sees */
    const forget = (): void => {
      if (limit === Number.POSITIVE_INFINITY) return
      let rest = tokensOf(tail?.k)
      for (const [i, s] of segments.entries()) {
        if (!s) continue
        const stay = Math.min(s.count, Math.max(0, Math.ceil((limit - rest) / group)))
        segments[i] = cut(s, i, s.count - stay, stay)
        rest += stay * group
      }
      const n = tokensOf(tail?.k)
      if (n > limit) tail = both((w) => part(tail![w], n - limit, limit))
    }
    const held = (): Tensor[] => [
      ...(tail ? [tail.k, tail.v] : []),
      ...segments.flatMap((s) => (s ? [s.k.q, s.k.grid, s.v.q, s.v.grid] : [])),
    ]
    /** changes what is held, and frees what is no longer */
    const replace = (change: () => void): void => {
      const before = held()
      tidy(() => {
        change()
        for (const t of held()) keep(t)
      })
      const now = new Set(held())
      dispose(before.filter((t) => !now.has(t)))
    }
    return {
      get bytes() {
        return held().reduce((n, t) => n + 4 * t.size, 0)
      },
      get tokens() {
        return [tokensOf(tail?.k), ...segments.map((s) => (s ? s.count * group : 0))]
      },
      extend: (k, v) => {
        const [texts, heads, , width] = k.shape as [number, number, number, number]
        shape ??= { texts, heads, width, values: v.shape[3]! }
        const all = both((w) => {
          const old = [...segments.entries()].reverse().flatMap(([i, s]) => (s ? [dense(w, i, s)] : []))
          return [...old, ...(tail ? [tail[w]] : []), w === 'k' ? k : v]
        })
        const found = both((w) => (all[w].length > 1 ? concat(all[w], 2) : all[w][0]!))
        for (const w of ['k', 'v'] as const) dispose(all[w].slice(0, -1).filter((t) => t !== tail?.[w]))
        replace(() => {
          tail = both((w) => (tail ? concat([tail[w], w === 'k' ? k : v], 2) : part(w === 'k' ? k : v, 0, tokensOf(k))))
          age()
          forget()
        })
        return { ...found, keys: tokensOf(found.k) }
      },
      select: (rows) => {
        if (!shape) return
        const { texts } = shape
        replace(() => {
          const index = tensor1d([...rows], 'int32')
          tail = tail && both((w) => gather(tail![w], index))
          segments = segments.map(
            (s, i) =>
              s && {
                count: s.count,
                ...both((w) =>
                  moveUnits(
                    s[w],
                    undefined,
                    Array.from({ length: s.count }, (_, j) => rows.map((r) => j * texts + r)).flat(),
                    at(w, i, s.count),
                  ),
                ),
              },
          )
        })
        shape = { ...shape, texts: rows.length }
      },
      dispose: () => {
        dispose(held())
        tail = undefined
        shape = undefined
        segments = steps.map(() => undefined)
      },
    }
  }
}
