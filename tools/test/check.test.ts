import { describe, expect, it } from 'vitest'
import { breaches } from '../check.ts'
import { citation, exported, parse } from '../source.ts'

const found = (text: string, path = 'packages/lora/src/toy.ts'): string =>
  breaches(parse(path, text), path.split('/')[1]!, {
    dependencies: { '@weftjs/spec': '^0.0.0', '@weftjs/tensor': '^0.0.0', '@tensorflow/tfjs-core': '^4.0.0' },
  }).join('\n')

describe('check', () => {
  it.each([
    ["import { nf4 } from '@weftjs/quant'", /:1: lora may not import @weftjs\/quant/],
    ["export * from '@weftjs/quant/nf4'", /lora may not import @weftjs\/quant/],
    ["const m = import('@weftjs/quant')", /lora may not import @weftjs\/quant/],
    ["import { add } from '@tensorflow/tfjs-core'", /only @weftjs\/tensor imports/],
    ["import type { Tensor } from '@tensorflow/tfjs-core'", /only @weftjs\/tensor imports/],
    ["import { rng } from '@weftjs/tensor/rng/index'", /import '@weftjs\/tensor\/rng' in place/],
    ["import picomatch from 'picomatch'", /picomatch is not among the dependencies/],
    ["import { a } from './a'", /lacks its extension/],
    ['export default 1', /no default exports/],
    ['export class Manager {}', /no classes but errors/],
    ['\n\nconst x = Math.random()', /:3: Math.random/],
    ['console.log(1)', /no console/],
    ['const y = x.reshape([1])', /not registered in tfjs-core: write reshape\(x\)/],
    ['const y = f(x).mul(2)', /write mul\(x\)/],
    ['export const toy = (): Adapter => make()', /toy gives no source/],
    [
      "/** W + BA  —  Hu et al., arXiv:2106.09685 */\nexport const toy = (): Adapter => ({ name: 'toi' })",
      /file, export and name are one/,
    ],
    [`${'\n'.repeat(400)}const a = 1`, /401 lines/],
  ])('refuses %s', (text, message) => {
    expect(found(text)).toMatch(message)
  })

  it.each([
    "import type { Adapter } from '@weftjs/spec'\nimport { add } from '@weftjs/tensor'\nimport { a } from './a.ts'",
    'export class RankError extends Error {}',
    'const x = Math.max(1, 2), y = [1].slice(0), z = new Set<number>().add(1)',
    "/** W + BA  —  Hu et al., arXiv:2106.09685 */\nexport const toy = (): Adapter => ({ name: 'toy' })",
  ])('lets %s be', (text) => {
    expect(found(text)).toBe('')
  })

  it('lets tensor import tfjs, and spec its types only', () => {
    expect(found("import { add } from '@tensorflow/tfjs-core'", 'packages/tensor/src/a.ts')).toBe('')
    expect(found("import type { Tensor } from '@tensorflow/tfjs-core'", 'packages/spec/src/a.ts')).toBe('')
    expect(found("import { add } from '@tensorflow/tfjs-core'", 'packages/spec/src/a.ts')).toMatch(
      /only @weftjs\/tensor/,
    )
  })

  it('reads docstrings: equation and source, and what a factory returns, behind decorators too', () => {
    expect(citation('W + B·A  —  Hu et al., arXiv:2106.09685\n\nMore.')).toEqual({
      equation: 'W + B·A',
      paper: 'Hu et al., arXiv:2106.09685',
    })
    expect(citation('no source here — only a dash')).toBeUndefined()
    const text = `/** a  —  b */\nexport const sam = (rho: number) => (inner: Estimator): Estimator => inner\nexport const k: Merge = (t) => t[0]`
    expect(exported(parse('a.ts', text))).toEqual([
      { name: 'sam', doc: 'a  —  b', type: 'Estimator' },
      { name: 'k', doc: '', type: 'Merge' },
    ])
  })
})
