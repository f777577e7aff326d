import type { Codec, Params, Tensor2D, Weight } from '@weftjs/spec'
import { cpu, scalar, tensor1d, tensor2d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { compose, dense, lowRank, packed, scale, scaleColumns, scaleRows, sum } from '../src/index.ts'

await cpu()

const whole: Codec = {
  name: 'whole',
  encode: (w): Params => ({ w }),
  decode: ({ w }) => w as Tensor2D,
}
const w = tensor2d([1, 2, 3, 4], [2, 2])
const stored = packed(whole, w)

// what writes or trains a weight by its parts goes by `format` and `codec`: they must not outlive a factor or a summand
describe('the format of a weight is of that weight', () => {
  it('is named where it is stored as it is', () => {
    expect([stored.format, stored.codec]).toEqual(['whole', whole])
    expect([dense(w).format, dense(w).codec]).toEqual(['dense', undefined])
  })

  it.each<[string, Weight]>([
    ['scale', scale(2, stored)],
    ['scale by a tensor', scale(scalar(2), stored)],
    ['scaleRows', scaleRows(tensor1d([1, 2]), stored)],
    ['scaleColumns', scaleColumns(tensor1d([1, 2]), stored)],
    ['sum', sum(stored, lowRank(w, w))],
    ['compose', compose(stored, dense(w))],
    ['scale of a dense one', scale(2, dense(w))],
  ])('is not that of its base: %s', (_, weight) => {
    expect(weight.codec).toBeUndefined()
    expect(['whole', 'dense']).not.toContain(weight.format)
  })

  it('comes back through like', () => {
    for (const weight of [scale(2, stored), sum(stored, stored), scaleRows(tensor1d([1, 2]), stored)])
      expect(weight.like(weight.dense()).codec).toBe(whole)
  })
})
