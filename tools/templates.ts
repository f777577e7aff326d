/** What `npm run new` starts a method from: a small method that passes its contract, for the paper's to take its place. */
import type { Family } from './source.ts'

export interface Names {
  /** file: `my-method` */
  readonly file: string
  /** export: `myMethod` */
  readonly name: string
  /** types: `MyMethod` */
  readonly Type: string
  /** `Authors, arXiv:2401.01234` */
  readonly paper: string
}
interface Template {
  readonly source: (n: Names) => string
  readonly types: (n: Names) => readonly string[]
  readonly test: (n: Names, listed: boolean) => string
}

const head = (n: Names, imports: string): string =>
  `import { expect, it } from 'vitest'\n${imports}\nimport { ${n.name} } from '../src/${n.file}.ts'\n\n`

export const templates: Readonly<Record<Family, Template>> = {
  lora: {
    types: ({ Type }) => [`${Type}Options`, `${Type}State`],
    source: ({ file, name, Type, paper }) => `import type { Adapter, Site, Tensor, Tensor1D } from '@weftjs/spec'
import { add, mul, zeros } from '@weftjs/tensor'
import { scaleRows } from '@weftjs/weight'

export interface ${Type}Options {
  /** how far s reaches */
  readonly gain?: number
}
export interface ${Type}State extends Record<string, Tensor> {
  /** s [out] */
  s: Tensor1D
}

/** numbers that train at a site: out */
export const trainable = ({ out }: Site): number => out

/** (1 + gain·s) ⊙ W, s zero  —  ${paper} */
export const ${name} = ({ gain = 1 }: ${Type}Options = {}): Adapter<${Type}State> => ({
  name: '${file}',
  options: { gain },
  init: ({ weight }) => ({ state: { s: zeros([weight!.shape[0]]) as Tensor1D } }),
  weight: (base, { s }) => scaleRows(add(1, mul(gain, s)), base),
})
`,
    test: (
      n,
      listed,
    ) => `${head(n, `import { attach } from '@weftjs/model'\nimport { cpu, rng, tensor } from '@weftjs/tensor'\nimport { ${listed ? '' : 'testAdapter, '}tinyLlama } from '@weftjs/testkit'`)}${
      listed ? '' : `testAdapter(${n.name}())\n\n`
    }it('gives the matrix of its equation', async () => {
  await cpu()
  const site = 'blocks.0.attn.q'
  const network = tinyLlama(rng(0))
  const tuned = attach(network, [{ adapter: ${n.name}({ gain: 2 }), at: site }], rng(0))
  const w = network.weights[site]!.dense().arraySync()
  const s = w.map((_, i) => i / 8)
  const found = tuned.fold({ [\`\${site}.${n.file}.s\`]: tensor(s) }).weights[site]!.dense().arraySync()
  for (const [i, row] of w.entries()) for (const [j, x] of row.entries()) expect(found[i]![j]).toBeCloseTo((1 + 2 * s[i]!) * x, 5)
})
`,
  },
  quant: {
    types: ({ Type }) => [`${Type}Options`, `${Type}Parts`],
    source: ({ file, name, Type, paper }) => `import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { abs, add, cast, div, equal, max, mul, round } from '@weftjs/tensor'

export interface ${Type}Options {
  /** codes lie in −levels..levels */
  readonly levels?: number
}
export interface ${Type}Parts extends Record<string, Tensor> {
  /** codes, int32 [out, in] */
  q: Tensor
  /** largest magnitude of each row [out, 1] */
  scale: Tensor
}

/** round(levels·W/max|row|)  —  ${paper} */
export const ${name} = ({ levels = 127 }: ${Type}Options = {}): Codec<${Type}Parts> => ({
  name: '${file}',
  options: { levels },
  encode: (w) => {
    const scale = max(abs(w), 1, true) // [out, 1]
    const safe = add(scale, cast(equal(scale, 0), 'float32')) // a row of zeros is divided by 1
    return { q: cast(round(mul(div(w, safe), levels)), 'int32'), scale } // [out, in]
  },
  decode: ({ q, scale }) => mul(cast(q, 'float32'), div(scale, levels)) as Tensor2D,
})
`,
    test: (
      n,
      listed,
    ) => `${head(n, `import { cpu, tensor2d } from '@weftjs/tensor'${listed ? '' : "\nimport { testCodec } from '@weftjs/testkit'"}`)}${
      listed ? '' : `testCodec(${n.name}(), { bits: 33, error: 0.01 })\n\n`
    }it('stores the codes of its equation', async () => {
  await cpu()
  const codec = ${n.name}({ levels: 4 })
  const packed = codec.encode(tensor2d([[1, -0.5, 0.24], [0, 0, 0]]))
  expect([...packed.q.dataSync()]).toEqual([4, -2, 1, 0, 0, 0])
  expect([...codec.decode(packed, [2, 3]).dataSync()]).toEqual([1, -0.5, 0.25, 0, 0, 0])
})
`,
  },
  merge: {
    types: ({ Type }) => [`${Type}Options`],
    source: ({ name, Type, paper }) => `import type { Merge, Tensor } from '@weftjs/spec'
import { add, clone, mul, sub, tidy } from '@weftjs/tensor'

export interface ${Type}Options {
  /** λ */
  readonly lambda?: number
}

/** θ₀ + λ·(Σ wᵢ·θᵢ/Σ wᵢ − θ₀)  —  ${paper} */
export const ${name} =
  ({ lambda = 1 }: ${Type}Options = {}): Merge =>
  (tensors, { name, base, weights }) =>
    tidy(() => {
      if (!tensors.length && base) return clone(base)
      const total = weights.reduce((a, b) => a + b, 0)
      if (!tensors.length || !total)
        throw new Error(\`\${name}: ${name}: nothing to merge; give models whose weights do not sum to 0\`)
      const mean = tensors.map((t, i): Tensor => mul(t, weights[i]! / total)).reduce((a, b) => add(a, b))
      return base ? add(base, mul(lambda, sub(mean, base))) : mean
    })
`,
    test: (
      n,
      listed,
    ) => `${head(n, `import { cpu, rng, tensor } from '@weftjs/tensor'${listed ? '' : "\nimport { testMerge } from '@weftjs/testkit'"}`)}${
      listed ? '' : `testMerge('${n.name}', ${n.name}())\n\n`
    }it('gives the tensor of its equation', async () => {
  await cpu()
  const context = { name: 'w', base: tensor([0, 1]), weights: [1, 3], rng: rng(0) }
  const merged = ${n.name}({ lambda: 0.5 })([tensor([4, 1]), tensor([0, 5])], context)
  expect([...merged.dataSync()]).toEqual([0.5, 2.5])
})
`,
  },
  optim: {
    types: ({ Type }) => [`${Type}Options`],
    source: ({ name, Type, paper }) => `import type { Transform } from '@weftjs/spec'
import { type Schedule, scaleByLearningRate } from './transform.ts'

export interface ${Type}Options {
  readonly lr?: number | Schedule
}

/** p − lr·g  —  ${paper} */
export const ${name} = ({ lr = 1e-2 }: ${Type}Options = {}): Transform<unknown> => scaleByLearningRate(lr)
`,
    test: (
      n,
      listed,
    ) => `${head(n, `import { cpu, tensor } from '@weftjs/tensor'${listed ? '' : "\nimport { testTransform } from '@weftjs/testkit'"}`)}${
      listed ? '' : `testTransform('${n.name}', () => ${n.name}())\n\n`
    }it('takes the step of its equation', async () => {
  await cpu()
  const params = { x: tensor([1, 2]) }
  const { init, update } = ${n.name}({ lr: 0.5 })
  const [updates] = update({ x: tensor([1, -4]) }, init(params), params)
  expect([...updates['x']!.dataSync()]).toEqual([-0.5, 2])
})
`,
  },
  data: {
    types: ({ Type }) => [`${Type}Options`],
    source: ({ name, Type, paper }) => `import type { Example, Stage } from '@weftjs/spec'
import { stage } from './lazy.ts'

export interface ${Type}Options {
  /** fewest tokens of an example */
  readonly least?: number
}

/** examples of at least so many tokens  —  ${paper} */
export const ${name} = ({ least = 2 }: ${Type}Options = {}): Stage<Example> =>
  stage(async function* (items) {
    for await (const item of items) if (item.ids.length >= least) yield item
  })
`,
    test: (
      n,
    ) => `${head(n, "import { testStage } from '@weftjs/testkit'\nimport { collect, from } from '../src/lazy.ts'")}const example = (length: number) => ({ ids: Array(length).fill(1), labels: Array(length).fill(1) })

testStage('${n.name}', () => ${n.name}(), { items: Array.from({ length: 8 }, () => example(4)) })

it('passes on what it should, in order', async () => {
  const found = await collect(${n.name}({ least: 3 })(from([1, 3, 2, 5].map(example))))
  expect(found.map(({ ids }) => ids.length)).toEqual([3, 5])
})
`,
  },
}
