import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { beforeAll, describe, it } from 'vitest'
import { type Case, CODECS, compare } from './products.ts'

const FOURS: Case = { rows: [2, 5], shape: [36, 132] }
const ODD: Case = { rows: [7], shape: [35, 133] }
const THIN: Case = { rows: [3], shape: [36, 132] }
const TOKEN: Case = { rows: [1, 1], shape: [35, 133] }

/** each is a shader of its own, and a software adapter takes its time to compile one */
const CASES: readonly (readonly [keyof typeof CODECS, readonly Case[]])[] = [
  ['nf4', [FOURS, ODD]],
  ['nf4 double', [FOURS, TOKEN]],
  ['int8', [FOURS, ODD, THIN]],
  ['dynamic8', [ODD, THIN]],
  ['bf16', [FOURS]],
  ['f16', [ODD, FOURS]],
  ['affine of 4 bits', [FOURS, ODD]],
  ['affine of 3 bits', [FOURS]],
  ['affine of 2 bits', [ODD]],
  ['awq', [FOURS, ODD]],
  ['hqq of 4 bits', [FOURS]],
  ['hqq of 2 bits', [FOURS, ODD]],
  ['hqq of 3 bits by columns', [ODD]],
  ['hqq of 4 bits by columns', [FOURS]],
  ['int8 of a matrix', [FOURS]],
  ['fp8 by rows', [FOURS]],
  ['fp8 in tiles', [FOURS, ODD]],
  ['binary', [FOURS]],
  ['ternary', [FOURS]],
  ['ternary, five to a byte', [ODD, THIN]],
]

// `npm test` brings a software adapter where there is no GPU
describe.skipIf(!(await hasGpuFiles()))('products with a packed weight on webgpu', () => {
  beforeAll(async () => {
    await nodeWebgpu()
  })
  it.each(CASES)('%s: values, gradients and rows are those of the decoded matrix', async (name, cases) => {
    for (const c of cases) await compare('webgpu', CODECS[name], c)
  })
})
