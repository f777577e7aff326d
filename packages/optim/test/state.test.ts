import { cpu, isTensor, tensor } from '@weftjs/tensor'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packState, unpackState } from '../src/index.ts'

await cpu()

describe('packState', () => {
  const key = fc.oneof(
    fc.constantFrom('m', 'step', 'blocks.0.attn.q.lora.a', 'a/b', '0', ''),
    fc.string({ maxLength: 4 }),
  )
  const leaf = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
    fc.boolean(),
    fc.string({ maxLength: 5 }),
    fc.constant(null),
    fc.array(fc.float({ noNaN: true }), { maxLength: 3 }).map((v) => tensor(Float32Array.from(v), [v.length])),
  )
  const state = fc.letrec((tie) => ({
    any: fc.oneof({ depthSize: 'small' }, leaf, fc.array(tie('any'), { maxLength: 3 }), tie('record')),
    record: fc
      .array(
        fc.tuple(
          key.filter((k) => k !== '__proto__' && k !== '$tensor'),
          tie('any'),
        ),
        { maxLength: 4 },
      )
      .map((entries) => Object.fromEntries(entries)),
  })).any

  it('gives back what it was given, its tensors being the very same', () => {
    fc.assert(
      fc.property(state, (value) => {
        const packed = packState(value)
        const names = Object.keys(packed.tensors)
        expect(new Set(names).size).toBe(names.length)
        const same = (a: unknown, b: unknown): boolean => {
          if (isTensor(a) || isTensor(b)) return a === b
          if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) return Object.is(a, b)
          const [x, y] = [Object.keys(a), Object.keys(b)]
          return (
            Array.isArray(a) === Array.isArray(b) &&
            x.length === y.length &&
            x.every((k) => same((a as Record<string, unknown>)[k], (b as Record<string, unknown>)[k]))
          )
        }
        const again = unpackState({ tensors: packed.tensors, json: packed.json })
        return same(again, value)
      }),
      { numRuns: 300 },
    )
  })

  it.each([
    [{ a: [1, undefined] }, 'a/1: undefined cannot be kept in a checkpoint'],
    [{ a: { f: () => 1 } }, 'a/f: a function cannot be kept'],
    [{ n: Number.NaN }, 'n: NaN cannot be kept'],
    [{ n: new Map() }, 'n: an object of a class cannot be kept'],
    [{ n: new Float32Array(2) }, 'n: an object of a class'],
    [{ $tensor: 'x' }, "state: the key '$tensor' cannot be kept"],
    [1n, 'state: a bigint cannot be kept'],
  ])('refuses %s', (value, message) => {
    expect(() => packState(value)).toThrow(message)
  })

  it('says when a file is damaged or incomplete', () => {
    const { json } = packState({ m: { w: tensor([1]) } })
    expect(() => unpackState({ tensors: {}, json })).toThrow("names a tensor 'm/w' that is not in the checkpoint")
    expect(() => unpackState({ tensors: {}, json: '{"a"' })).toThrow("the optimizer's state is not valid JSON")
  })
})
