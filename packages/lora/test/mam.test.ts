import { attach } from '@weftjs/model'
import { rng } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { mam, trainable } from '../src/mam.ts'
import { parallel } from '../src/parallel.ts'
import { prefix } from '../src/prefix.ts'
import { expectSameText, gap, logits, moved, network, site, tune } from './beside.ts'

const at = ['blocks.*.attn.core', 'blocks.*.mlp']
const options = { prefix: { length: 3 }, adapter: { width: 5 } }

describe('mam', () => {
  it('is a prefix and a scaled parallel adapter together', async () => {
    const one = tune(mam(options), at)
    const both = attach(
      network,
      [
        { adapter: prefix({ length: 3 }), at: at[0]! },
        { adapter: parallel({ width: 5, scale: 4, activation: 'relu', bias: true }), at: at[1]! },
      ],
      rng(2),
    )
    const params = moved(one, 0.3)
    const parted = Object.fromEntries(
      Object.entries(params).map(([n, t]) => [n.replace('.mam.', n.includes('core') ? '.prefix.' : '.parallel.'), t]),
    )
    expect(Object.keys(parted).sort()).toEqual(Object.keys(both.params).sort())
    expect(await gap(logits(one, params), logits(both, parted))).toBe(0)
  })

  it('trains w·2d + w + d numbers at an MLP and 2·l·d at an attention', () => {
    const block = { heads: 12, kvHeads: 12, headWidth: 64, hidden: 3072, causal: false, scale: 0.125 }
    expect(trainable(site({ in: 768, out: 768, block }))).toBe(512 * 2 * 768 + 512 + 768)
    expect(trainable(site({ kind: 'core', in: 768, out: 768, block }))).toBe(2 * 30 * 768)
  })

  it('generates the same text with and without a cache', async () => {
    const tuned = tune(mam(options), at)
    await expectSameText(tuned, moved(tuned, 0.5))
  })

  it('refuses what either of the two refuses', () => {
    expect(() => mam({ prefix: { length: 0 } })).toThrow('prefix: length must be')
    expect(() => mam({ adapter: { dropout: 2 } })).toThrow('parallel: dropout must be')
    expect(() => mam({ adapter: { activation: 'identity', bias: false } })).toThrow(
      'mam: the adapter at the MLP needs an activation',
    )
  })
})
