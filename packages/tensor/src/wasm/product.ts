/**
 * One matrix product, blocked for the caches, as one routine of the module: a worker thread does a share of a large
 * product in one call. Letters as in gemm.ts; all strides in bytes.
 */
import { type Code, i32, type Local, loop, type Routine, when } from './assemble.ts'

/** Blocks of the right side are packed to [KC, NC] floats, which a level-2 cache holds. */
const KC = 512
const NC = 256

/** Few rows do not pay for packing the right side. */
const DIRECT = 12
/** Rows against transposed rows: up to this many are dot products. */
const DOTS = 8
/** Rows of A that a row of B meets at once, and rows of B that stay in a cache until the other rows of A have met them. */
export const TOGETHER = 6
const DOT_BLOCK = 32

/** Bytes that a thread needs for its packed blocks, given the rows of a tile. */
export const scratchBytes = (rows: number): number => 4 * KC * (NC + 8 * Math.ceil(rows / 8))

/** The parameters in order; `scratch` is followed by as many pieces of scratchBytes as there are threads. */
const PARAMETERS = [
  'm',
  'n',
  'k',
  'transposeA',
  'transposeB',
  'a',
  'lda',
  'b',
  'ldb',
  'c',
  'ldc',
  'add',
  'scratch',
  'thread',
] as const

export const product = (rows: number): Routine => ({
  name: 'product',
  parameters: PARAMETERS,
  body: ({ int, call }) => {
    const { add: plus, const: constant, div, mul, sub, min } = i32
    const get = (name: string): Code => int(name).get
    const set = (name: string, value: Code): Code => int(name).set(value)
    const bump = (name: string, by: Code): Code => set(name, plus(get(name), by))
    const floats = (n: Code): Code => mul(n, constant(4))
    /** base + row·stride + column floats */
    const at = (base: string, row: Code, stride: string, column: Code): Code =>
      plus(get(base), plus(mul(row, get(stride)), floats(column)))
    const ceil = (a: Code, b: number): Code => div(plus(a, constant(b - 1)), constant(b))
    /** for name = 0; name < end; name += step */
    const count = (name: string, end: Code, step: Code, body: Code): Code => [
      set(name, constant(0)),
      loop(i32.lt(get(name), end), [body, bump(name, step)]),
    ]
    /** the routine made for this many rows or columns */
    const among = (most: number, value: Local, then: (exactly: number) => Code): Code =>
      Array.from({ length: most }, (_, i) => when(i32.eq(value.get, constant(i + 1)), then(i + 1)))

    const byDots = count('j', get('n'), constant(DOT_BLOCK), [
      set('width', sub(get('n'), get('j'))),
      set('width', min(get('width'), constant(DOT_BLOCK))),
      count('i', get('m'), constant(TOGETHER), [
        set('tall', sub(get('m'), get('i'))),
        set('tall', min(get('tall'), constant(TOGETHER))),
        among(TOGETHER, int('tall'), (exactly) =>
          call(
            `dots${exactly}`,
            at('a', get('i'), 'lda', constant(0)),
            get('lda'),
            at('b', get('j'), 'ldb', constant(0)),
            get('ldb'),
            at('c', get('i'), 'ldc', get('j')),
            get('ldc'),
            get('width'),
            get('k'),
            get('add'),
          ),
        ),
      ]),
    ])

    const packRight = when(
      get('transposeB'),
      call('packTransposed', at('b', get('j'), 'ldb', get('p')), get('ldb'), get('width'), get('panels'), get('kc')),
      [
        set('q', get('from')),
        loop(i32.lt(get('q'), get('width')), [
          set('rest', sub(get('width'), get('q'))),
          set('rest', min(get('rest'), constant(8))),
          among(8, int('rest'), (columns) =>
            call(
              `columns${columns}`,
              at('b', get('p'), 'ldb', plus(get('j'), get('q'))),
              get('ldb'),
              plus(get('panels'), floats(mul(get('q'), get('kc')))),
              constant(32),
              get('kc'),
            ),
          ),
          bump('q', constant(8)),
        ]),
      ],
    )

    // the columns before `from` are read where they are, the others from the panels
    const multiply = (exactly: number, packed: boolean): Code => {
      const name = `${packed ? 'packed' : 'rows'}${exactly}`
      return [
        when(
          get('from'),
          call(
            name,
            get('start'),
            get('lda'),
            at('b', get('p'), 'ldb', get('j')),
            get('ldb'),
            constant(32),
            get('to'),
            get('ldc'),
            get('from'),
            get('kc'),
            get('more'),
          ),
        ),
        when(
          i32.lt(get('from'), get('width')),
          call(
            name,
            get('start'),
            get('lda'),
            plus(get('panels'), floats(mul(get('from'), get('kc')))),
            constant(32),
            mul(get('kc'), constant(32)),
            plus(get('to'), floats(get('from'))),
            get('ldc'),
            sub(get('width'), get('from')),
            get('kc'),
            get('more'),
          ),
        ),
      ]
    }

    // tiles of almost equal height: the first `taller` have one row more than `height`
    const eachTile = count('i', get('m'), get('tall'), [
      set('tall', plus(get('height'), i32.lt(get('t'), get('taller')))),
      bump('t', constant(1)),
      set('to', at('c', get('i'), 'ldc', get('j'))),
      when(
        get('transposeA'),
        among(rows, int('tall'), (exactly) => [
          set('start', get('left')),
          call(
            `columns${exactly}`,
            at('a', get('p'), 'lda', get('i')),
            get('lda'),
            get('left'),
            constant(4 * exactly),
            get('kc'),
          ),
          multiply(exactly, true),
        ]),
        [
          set('start', at('a', get('i'), 'lda', get('p'))),
          among(rows, int('tall'), (exactly) => multiply(exactly, false)),
        ],
      ),
    ])

    const byTiles = [
      set('panels', plus(get('scratch'), mul(get('thread'), constant(scratchBytes(rows))))),
      set('left', plus(get('panels'), constant(4 * KC * NC))),
      set('tiles', ceil(get('m'), rows)),
      set('height', div(get('m'), get('tiles'))),
      set('taller', sub(get('m'), mul(get('height'), get('tiles')))),
      // as few blocks of k as fit, of equal depth
      set('depth', mul(ceil(get('k'), KC), constant(4))),
      set('depth', mul(div(plus(get('k'), sub(get('depth'), constant(1))), get('depth')), constant(4))),
      count('j', get('n'), constant(NC), [
        set('width', sub(get('n'), get('j'))),
        set('width', min(get('width'), constant(NC))),
        set('from', constant(0)),
        when(
          i32.and(i32.not(get('transposeB')), i32.le(get('m'), constant(DIRECT))),
          set('from', i32.and(get('width'), constant(-8))),
        ),
        count('p', get('k'), get('depth'), [
          set('kc', sub(get('k'), get('p'))),
          set('kc', min(get('kc'), get('depth'))),
          set('more', i32.or(get('add'), i32.gt(get('p'), constant(0)))),
          packRight,
          set('t', constant(0)),
          eachTile,
        ]),
      ]),
    ]

    // a row that lies in one piece
    const row = i32.and(
      i32.eq(get('m'), constant(1)),
      i32.or(i32.not(get('transposeA')), i32.eq(get('lda'), constant(4))),
    )
    const few = i32.and(i32.le(get('m'), constant(DOTS)), i32.or(row, i32.not(get('transposeA'))))
    return when(
      i32.and(get('transposeB'), few),
      byDots,
      when(row, call('combination', get('a'), get('b'), get('ldb'), get('c'), get('n'), get('k'), get('add')), byTiles),
    )
  },
})
