import type { Codec, Tensor2D } from '@weftjs/spec'
import { cpu, rng, tensor, wasm } from '@weftjs/tensor'
import { beforeAll, describe, expect, it } from 'vitest'
import { affine, bf16, binary, dynamic8, f16, fp8, int8, nf4, ternary } from '../src/index.ts'

/** numbers that a heap routine may treat in another way than the loop that says what it does */
const MATRICES: Readonly<Record<string, (x: number, i: number) => number>> = {
  normal: (x) => x,
  'halves and ties': (x) => Math.round(4 * x) / 8,
  'from subnormal to large, with zeros of both signs': (x, i) =>
    i % 7 === 0 ? -0 : i % 5 === 0 ? 0 : x * 10 ** ((i % 60) - 38),
  'no negative': (x, i) => (i % 3 ? Math.abs(x) : 0),
  zeros: () => 0,
  'negative, near the largest': (x, i) => (i % 2 ? -0 : -Math.abs(x) * 4e37),
}
/** the last in several threads; groups, tiles and words end where they like */
const SHAPES = [
  [1, 120],
  [7, 240],
  [2, 7],
  [150, 1920],
] as const

const GRIDS = ([2, 3, 4, 8] as const).flatMap((bits) =>
  [1, 5, 20, 24, 48, -1].flatMap((group) => [false, true].map((symmetric) => affine({ bits, group, symmetric }))),
)
const FEW = [1, 3, 4, 12, 60].flatMap((group) =>
  (group === 60 ? (['tensor', 'row', 'group'] as const) : (['group'] as const)).flatMap((per) => [
    int8({ per, group }),
    binary({ per, group }),
    ternary({ per, group }),
    ternary({ per, group, pack: 'base3', fit: true }),
  ]),
)
const FLOATS = (['e4m3', 'e5m2'] as const).flatMap((format) => [
  fp8({ format }),
  fp8({ format, per: 'tensor' }),
  ...(
    [
      [4, 20],
      [7, 1],
      [1, 33],
    ] as const
  ).map((tile) => fp8({ format, per: 'block', tile })),
])
const TABLES = [16, 50, 256].flatMap((block) => [dynamic8({ block }), dynamic8({ block, signed: false })])
const CODECS = {
  GRIDS,
  FEW,
  FLOATS,
  HALVES: [f16(), bf16()],
  TABLES: [...TABLES, nf4()],
} as unknown as Record<string, Codec[]>

type Bytes = Readonly<Record<string, Uint8Array | string>>
const bytesOf = (codec: Codec, w: Tensor2D): Bytes => {
  try {
    const parts = Object.entries(codec.encode(w)).map(([name, t]) => {
      const { buffer, byteOffset, byteLength } = t.dataSync()
      const copy = new Uint8Array(buffer, byteOffset, byteLength).slice()
      t.dispose()
      return [name, copy] as const
    })
    return Object.fromEntries(parts)
  } catch (error) {
    return { error: (error as Error).message } // of groups that do not divide it
  }
}

describe.each(Object.keys(CODECS))('encoders on the heap: %s', (kind) => {
  const codecs = CODECS[kind]!
  const wanted = new Map<string, Bytes>()
  const each = (f: (key: string, codec: Codec, w: Tensor2D) => void): void => {
    for (const [name, of] of Object.entries(MATRICES))
      for (const shape of SHAPES) {
        if (shape[0] > 100 && name !== 'normal') continue
        const noise = rng(7).numbers(shape[0] * shape[1])
        const values = Float32Array.from(noise, (u, i) => of(4 * Math.fround(u) - 2, i))
        const w = tensor(values, [...shape]) as Tensor2D
        for (const [i, codec] of codecs.entries())
          f(`${name} [${shape}] ${codec.name} ${i} ${JSON.stringify(codec.options)}`, codec, w)
        w.dispose()
      }
  }
  beforeAll(async () => {
    await cpu()
    each((key, codec, w) => wanted.set(key, bytesOf(codec, w)))
    await wasm()
  })

  it('are the bytes of the loops', () => {
    each((key, codec, w) => {
      const [got, want] = [bytesOf(codec, w), wanted.get(key)!]
      expect(Object.keys(got), key).toEqual(Object.keys(want))
      // a difference of large arrays takes long to print
      for (const [part, bytes] of Object.entries(want))
        if (typeof bytes === 'string') expect(got[part], key).toBe(bytes)
        else expect(Buffer.compare(got[part] as Uint8Array, bytes), `${key}: ${part}`).toBe(0)
    })
    expect(wanted.size).toBeGreaterThan(20)
  })
})
