import { attach, sitesOf } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { hira } from '../src/hira.ts'
import { hra } from '../src/hra.ts'
import { loha } from '../src/loha.ts'
import { peftConfig } from '../src/peft/config.ts'
import { fromPeft } from '../src/peft/load.ts'
import { peftConfigOf } from '../src/peft/save.ts'
import { road } from '../src/road.ts'
import { vera } from '../src/vera.ts'
import { model } from './fixture.ts'

await cpu()
const OFT = { peft_type: 'OFT', target_modules: ['q_proj'], r: 0, oft_block_size: 8, eps: 6e-5, peft_version: '0.21.2' }

describe('configs that PEFT itself would read otherwise, or not', () => {
  it.each([
    [{ ...OFT, oft_block_size: undefined }, 'has no oft_block_size: this OFT is of PEFT 0.13 or before'],
    [{ ...OFT, r: 4 }, 'one of r and oft_block_size must be 0, found 4 and 8'],
    [{ ...OFT, peft_version: '0.17.1' }, 'use_cayley_neumann with peft_version "0.17.1", whose series was another'],
    [{ ...OFT, peft_version: undefined }, 'use_cayley_neumann with peft_version null'],
    [
      { peft_type: 'ROAD', target_modules: ['q_proj'], variant: 'road_3' },
      'variant must be "road_1" or "road_2" or "road_4", found "road_3"',
    ],
    [{ peft_type: 'VERA', target_modules: ['q_proj'], r: 0 }, 'r must be a whole number of at least 1, found 0'],
    [{ peft_type: 'RANDLORA', target_modules: ['q_proj'], r: 4 }, 'randlora_alpha must be a number, found nothing'],
    [{ peft_type: 'BOFT', target_modules: ['q_proj'], bias: 'lora_only' }, 'bias must be "none", "all" or "boft_only"'],
    [
      { peft_type: 'LOKR', target_modules: ['q_proj'], alpha_pattern: { q: 'x' } },
      'alpha_pattern["q"] must be a number, found "x"',
    ],
    [
      { peft_type: 'FOURIERFT', target_modules: ['q_proj'], n_frequency: 2.5 },
      'n_frequency must be a whole number of at least 1, found 2.5',
    ],
  ])('%o', (config, message) => {
    expect(() => peftConfig(config)).toThrow(message)
  })

  it.each([
    { ...OFT, peft_version: '0.17.1', use_cayley_neumann: false },
    { ...OFT, peft_version: '0.18.0' },
    { ...OFT, peft_version: '1.0.0.dev0' },
  ])('%o is read', (config) => {
    expect(peftConfig(config).peft_type).toBe('OFT')
  })
})

describe('what PEFT cannot say', () => {
  it('HiRA of two ranks', async () => {
    const network = await model('llama3')
    const adapter = hira({ rank: 2, rankPattern: { 'attn\\.q': 3 } })
    const tuned = attach(network, [{ adapter, at: 'blocks.*.attn.{q,v}' }], rng(0))
    expect(() => peftConfigOf(tuned)).toThrow('PEFT has one r for all modules')
  })
  it.each<[string, Adapter<any>, string, string]>([
    [
      'gpt2',
      loha({ rank: 2 }),
      'blocks.0.attn.qkv',
      'PEFT has no LOHA for a matrix that its checkpoint keeps as [in, out]',
    ],
    [
      'gpt2',
      hra({ rank: 2 }),
      'blocks.0.attn.qkv',
      'PEFT has no HRA for a matrix that its checkpoint keeps as [in, out]',
    ],
    ['llama', vera({ rank: 2 }), 'embed', 'PEFT has no VERA for an embedding; leave this site out'],
  ])('a module that PEFT does not take: %s', async (name, adapter, at, message) => {
    const tuned = attach(await model(name), [{ adapter, at }], rng(0))
    expect(() => peftConfigOf(tuned)).toThrow(message)
  })
  it('two methods in one file', async () => {
    const network = await model('llama3')
    const attachments = [
      { adapter: road({ group: 4 }), at: 'blocks.0.attn.q' },
      { adapter: hira({ rank: 2 }), at: 'blocks.0.attn.v' },
    ]
    expect(() => peftConfigOf(attach(network, attachments, rng(0)))).toThrow(
      "a PEFT ROAD file cannot hold 'hira' beside 'road'; save them apart",
    )
  })
})

it('attaches nothing where a size does not fit: the site is named', async () => {
  const network = await model('llama3')
  const config = peftConfig({ peft_type: 'BOFT', target_modules: ['q_proj'], boft_block_size: 7 })
  const start = fromPeft(config, network, sitesOf(network))
  expect(() => attach(start.network, start.attachments, rng(0), start.options)).toThrow(
    'blocks.0.attn.q: 48 inputs are no whole number of blocks',
  )
})
