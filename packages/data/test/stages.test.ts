import type { Batch, Example } from '@weftjs/spec'
import { rng } from '@weftjs/tensor/rng'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  batches,
  batchOf,
  collate,
  collect,
  filter,
  from,
  map,
  type PackedRow,
  pack,
  pipe,
  repeat,
  shuffle,
  shuffled,
  skip,
  split,
  take,
  truncate,
} from '../src/index.ts'
import { stream, watched } from './toy.ts'

const range = (n: number) => Array.from({ length: n }, (_, i) => i)
/** ids that tell example and place: 100·e + i; labels masked by a pattern */
const numbered = (sizes: readonly number[], masked = 0): Example[] =>
  sizes.map((size, e) => {
    const ids = range(size).map((i) => 100 * (e + 1) + i)
    return { ids, labels: ids.map((id, i) => (i < masked ? -100 : id)) }
  })
const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 30 })

/** What a model needs of any row, whoever made it. */
const lawful = (
  { ids, targets, positions, segments }: PackedRow,
  examples: readonly Example[],
  length: number,
  pad: number,
) => {
  expect([ids, targets, positions, segments].map((a) => a.length)).toEqual([length, length, length, length])
  let at = 0
  for (let segment = 1; segments[at] === segment; segment++) {
    let end = at
    while (segments[end] === segment) end++
    const own = Array.from(ids.subarray(at, end))
    const example = examples.find((x) => x.ids.length === own.length && x.ids.every((id, i) => id === own[i]))
    expect(example).toBeDefined()
    expect(Array.from(positions.subarray(at, end))).toEqual(range(end - at))
    expect(Array.from(targets.subarray(at, end))).toEqual([...example!.labels.slice(1), -100])
    at = end
  }
  for (const [array, value] of [
    [ids, pad],
    [targets, -100],
    [positions, 0],
    [segments, 0],
  ] as const)
    expect(array.subarray(at).every((x) => x === value)).toBe(true)
}
const tokens = (rows: readonly PackedRow[]) =>
  rows.flatMap(({ ids, segments }) => Array.from(ids).filter((_, i) => segments[i]! > 0)).sort((a, b) => a - b)

describe('pack', () => {
  it.each(['bfd', 'sequential'] as const)('%s keeps every token, in segments of one example each', async (strategy) => {
    await fc.assert(
      fc.asyncProperty(
        sizes,
        fc.integer({ min: 1, max: 24 }),
        fc.integer({ min: 1, max: 12 }),
        fc.nat(3),
        async (list, length, window, masked) => {
          const examples = numbered(list, masked)
          const whole = await collect(truncate(length, { long: 'split' })(from(examples)))
          const rows = await collect(pipe(from(examples), pack({ length, strategy, window, pad: 7 })))
          for (const row of rows) lawful(row, whole, length, 7)
          expect(tokens(rows)).toEqual(examples.flatMap((x) => x.ids).sort((a, b) => a - b))
        },
      ),
    )
  })

  it('fits best first, and leaves rows in the order of their first example', async () => {
    // longest first: 5, 4, then each 3 opens a row, the 2s fill those, and the 1 goes to the row of 4
    const rows = await collect(pipe(from(numbered([2, 3, 1, 5, 2, 3, 4])), pack({ length: 5 })))
    const owners = (row: PackedRow) => Array.from(row.ids).map((id) => Math.floor(id / 100))
    expect(rows.map(owners)).toEqual([
      [1, 1, 6, 6, 6],
      [2, 2, 2, 5, 5],
      [3, 7, 7, 7, 7],
      [4, 4, 4, 4, 4],
    ])
  })

  it('opens a row only for an example that fits in no other', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, async (list) => {
        const length = 20
        const rows = await collect(pipe(from(numbered(list)), pack({ length })))
        const parts = rows.map(({ segments }) =>
          range(Math.max(...segments)).map((s) => segments.filter((segment) => segment === s + 1).length),
        )
        for (const row of parts)
          for (const other of parts) {
            const [opener, first] = [Math.max(...row), Math.max(...other)]
            if (row === other || first <= opener) continue
            // when `row` was opened, `other` held no more than its examples of at least that size
            const held = other.filter((size) => size >= opener).reduce((x, y) => x + y, 0)
            expect(held + opener).toBeGreaterThan(length)
          }
      }),
    )
  })

  it('handles what is too long as asked, and keeps an example of exactly the length whole', async () => {
    const rows = (long: 'truncate' | 'split' | 'drop') =>
      collect(pipe(from(numbered([4, 9])), pack({ length: 4, long })))
    expect((await rows('split')).map((row) => Array.from(row.ids))).toEqual([
      [100, 101, 102, 103],
      [200, 201, 202, 203],
      [204, 205, 206, 207],
      [208, 0, 0, 0],
    ])
    expect(tokens(await rows('truncate'))).toEqual([100, 101, 102, 103, 200, 201, 202, 203])
    expect(tokens(await rows('drop'))).toEqual([100, 101, 102, 103])
  })

  it('refuses options and examples that make no sense', async () => {
    expect(() => pack({ length: 0 })).toThrow('pack: length: found 0, want a whole number of at least 1')
    expect(() => pack({ length: 4, strategy: 'best' as 'bfd' })).toThrow(
      'pack: no strategy "best"; there are bfd and sequential',
    )
    await expect(collect(pipe(from([{ ids: [1, 2], labels: [1] }]), pack({ length: 4 })))).rejects.toThrow(
      'example 1: 1 labels for 2 ids',
    )
  })
})

describe('collate and batches', () => {
  it('collate gives an example a row', async () => {
    const examples = numbered([3, 5, 8])
    const rows = await collect(pipe(from(examples), collate({ length: 5, pad: 9 })))
    const cut = await collect(truncate(5)(from(examples)))
    expect(rows.length).toBe(3)
    for (const row of rows) lawful(row, cut, 5, 9)
  })

  it('batches have one shape; the rows are those of pack and collate', async () => {
    const rowsOf = ({ shape: [b, t], ...arrays }: Batch): PackedRow[] =>
      range(b).map((r) => {
        const row = (a: Int32Array) => a.slice(r * t, (r + 1) * t)
        return {
          ids: row(arrays.ids),
          targets: row(arrays.targets),
          positions: row(arrays.positions),
          segments: row(arrays.segments),
        }
      })
    await fc.assert(
      fc.asyncProperty(
        sizes,
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom(false, true, 'sequential' as const),
        async (list, batch, packed) => {
          const length = 12
          const examples = numbered(list)
          const make =
            packed === false
              ? collate({ length, pad: 3 })
              : pack({ length, pad: 3, long: 'truncate', strategy: packed === true ? 'bfd' : packed })
          const rows = await collect(pipe(from(examples), make))
          const out = await collect(pipe(from(examples), batches({ batch, length, pack: packed, pad: 3 })))
          expect(out.every(({ shape }) => shape[0] === batch && shape[1] === length)).toBe(true)
          const all = out.flatMap(rowsOf)
          expect(all.slice(0, rows.length)).toEqual(rows)
          for (const row of all.slice(rows.length)) lawful(row, [], length, 3)
          const full = await collect(
            pipe(from(examples), batches({ batch, length, pack: packed, pad: 3, last: 'drop' })),
          )
          expect(full).toEqual(out.slice(0, Math.floor(rows.length / batch)))
          const skipped = await collect(pipe(from(examples), batches({ batch, length, pack: packed, pad: 3, skip: 2 })))
          expect(skipped).toEqual(out.slice(2))
        },
      ),
    )
  })
})

describe('shuffle', () => {
  it('is a permutation, the same for the same seed, another for another', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(200), fc.integer({ min: 1, max: 250 }), fc.nat(1000), async (n, buffer, seed) => {
        const items = range(n)
        for (const options of [{}, { buffer }]) {
          const once = await collect(pipe(from(items), shuffle(rng(seed), options)))
          expect(await collect(pipe(stream(items), shuffle(rng(seed), options)))).toEqual(once)
          expect([...once].sort((a, b) => a - b)).toEqual(items)
        }
        expect(shuffled(items, rng(seed))).toEqual(shuffled(items, rng(seed)))
      }),
      { numRuns: 30 },
    )
    const order = (seed: number) => collect(pipe(from(range(50)), shuffle(rng(seed))))
    expect(await order(1)).not.toEqual(await order(2))
  })

  it('gives every item every place about as often', () => {
    const counts = range(16).map(() => 0)
    const stream = rng(5)
    for (let i = 0; i < 8000; i++) {
      const order = shuffled([0, 1, 2, 3], stream)
      for (const [place, item] of order.entries()) counts[4 * item + place]!++
    }
    // 2000 expected, standard deviation 39
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200)
  })

  it('with a buffer moves nothing forward by more than the buffer, and holds no more', async () => {
    const source = watched(range(100))
    let yielded = 0
    for await (const item of shuffle<number>(rng(3), { buffer: 8 })(source)) {
      expect(item).toBeLessThanOrEqual(yielded + 8)
      expect(source.pulled - ++yielded).toBeLessThanOrEqual(8)
    }
    expect(yielded).toBe(100)
  })

  it('leaves its generator as it was', async () => {
    const stream = rng(4)
    await collect(pipe(from(range(10)), shuffle(stream)))
    expect(stream.numbers(3)).toEqual(rng(4).numbers(3))
  })
})

describe('split', () => {
  it('parts a stream with no loss and the right count, spread over it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(300),
        fc.double({ min: 0, max: 0.5, noNaN: true }),
        fc.nat(99),
        async (n, fraction, seed) => {
          const { train, validation } = split<number>(fraction, rng(seed))
          const [a, b] = [await collect(train(from(range(n)))), await collect(validation(from(range(n))))]
          expect([...a, ...b].sort((x, y) => x - y)).toEqual(range(n))
          expect(Math.abs(b.length - n * fraction)).toBeLessThanOrEqual(1)
        },
      ),
    )
    expect(() => split(0.7, rng(0))).toThrow('split: found fraction 0.7')
  })
})

describe('the small stages', () => {
  it('agree with those of arrays', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer()), fc.nat(12), fc.integer({ min: 1, max: 5 }), async (items, n, size) => {
        const run = <B>(s: (items: AsyncIterable<number>) => AsyncIterable<B>) => collect(s(from(items)))
        expect(await run(take(n))).toEqual(items.slice(0, n))
        expect(await run(skip(n))).toEqual(items.slice(n))
        expect(await run(map((x, i) => x * i))).toEqual(items.map((x, i) => x * i))
        expect(await run(filter(async (x) => x % 2 === 0))).toEqual(items.filter((x) => x % 2 === 0))
        const groups = await run(batchOf(size))
        expect(groups.flat()).toEqual(items)
        expect(groups.slice(0, -1).every((g) => g.length === size)).toBe(true)
        expect((await run(batchOf(size, { last: 'drop' }))).flat()).toEqual(
          items.slice(0, items.length - (items.length % size)),
        )
        expect(await run(repeat(3))).toEqual([...items, ...items, ...items])
      }),
    )
  })

  it('repeat gives each epoch its own order, and knows a source that is spent', async () => {
    const epochs = await collect(
      pipe(
        from(range(20)),
        repeat(2, (epoch) => shuffle(rng(1).fork(epoch))),
      ),
    )
    expect(epochs.slice(0, 20)).not.toEqual(epochs.slice(20))
    expect(new Set(epochs.slice(20)).size).toBe(20)
    await expect(collect(pipe(stream([1, 2]), repeat(2)))).rejects.toThrow(
      'pass 2 found no items; the source can be read only once',
    )
  })

  it('pipe goes from left to right and starts nothing by itself', async () => {
    const source = watched([1, 2, 3])
    const piped = pipe(
      source,
      map((x) => x + 1),
      filter((x) => x > 2),
      map(String),
    )
    expect(source.pulled).toBe(0)
    expect(await collect(piped)).toEqual(['3', '4'])
  })
})

describe('laziness', () => {
  const examples = numbered(range(64).map(() => 4))
  it.each([
    ['map', map((x: Example) => x), 1],
    ['filter', filter(() => true), 1],
    ['take', take<Example>(1), 1],
    ['skip', skip<Example>(2), 3],
    ['truncate', truncate(8), 1],
    ['batchOf', batchOf<Example>(3), 3],
    ['repeat', repeat<Example>(), 1],
    ['shuffle', shuffle<Example>(rng(0), { buffer: 5 }), 6],
    ['split', split<Example>(0.5, rng(0)).train, 2],
    ['collate', collate({ length: 8 }), 1],
    ['pack in order', pack({ length: 8, strategy: 'sequential' }), 3],
    ['pack by best fit', pack({ length: 8, window: 10 }), 10],
    ['batches', batches({ batch: 2, length: 8 }), 2],
  ])('%s pulls no more than it needs for one item, and closes its source', async (_, made, most) => {
    const source = watched(examples)
    for await (const item of (made as (s: AsyncIterable<Example>) => AsyncIterable<unknown>)(source)) {
      expect(item).toBeDefined()
      break
    }
    expect(source.pulled).toBeGreaterThan(0)
    expect(source.pulled).toBeLessThanOrEqual(most)
    expect(source.closed).toBe(1)
  })
})

describe('the package', () => {
  it('exports every method that a file is named after', () => {
    const files = import.meta.glob<Record<string, unknown>>('../src/*.ts', { eager: true })
    const index = files['../src/index.ts']!
    const support = ['lazy', 'row', 'rows', 'tokens', 'input', 'utf8', 'index']
    const methods = Object.keys(files)
      .map((path) => path.slice('../src/'.length, -'.ts'.length))
      .filter((name) => !support.includes(name))
    expect(methods.length).toBeGreaterThan(25)
    for (const name of methods) {
      const camel = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
      expect(files[`../src/${name}.ts`], name).toHaveProperty(camel)
      expect(index[camel], name).toBe(files[`../src/${name}.ts`]![camel])
    }
  })
})
