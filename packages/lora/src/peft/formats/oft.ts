import { type OftOptions, oft } from '../../oft.ts'
import { chance, flag, number, type PeftFormat, starts, whole } from '../format.ts'
import { mustTake } from '../places.ts'

const of = (options: object): OftOptions => options as OftOptions

/** OFT as PEFT has it since 0.18, where the series was changed  —  huggingface/peft, tuners/oft, without convolutions */
export const format: PeftFormat = {
  type: 'OFT',
  method: 'oft',
  fields: {
    block: whole('oft_block_size', 0, {
      fallback: 32,
      read: (v) => v || undefined,
      write: (v, o) => v ?? (of(o).blocks === undefined ? 32 : 0),
    }),
    blocks: whole('r', 0, { fallback: 0, read: (v) => v || undefined, write: (v) => v ?? 0 }),
    share: flag('block_share', false),
    neumann: flag('use_cayley_neumann', true),
    terms: whole('num_cayley_neumann_terms', 1, { fallback: 5 }),
    radius: number('eps', { read: (v, { coft }) => (coft ? (v ?? 6e-5) : undefined), write: (v) => v ?? 6e-5 }),
    constrained: flag('coft', false, { read: () => undefined, write: (_, o) => of(o).radius !== undefined }),
    dropout: chance('module_dropout'),
    init: starts('init_weights'),
  },
  fixed: { peft_version: '0.18.0' },
  check: ({ oft_block_size: block, r = 0, use_cayley_neumann: series = true, peft_version: version }) => {
    if (block === undefined)
      throw new Error(
        'adapter_config.json: has no oft_block_size: this OFT is of PEFT 0.13 or before, which turned otherwise. Fold it with that version (merge_and_unload) and load the merged model',
      )
    if ((block === 0) === (r === 0))
      throw new Error(`adapter_config.json: one of r and oft_block_size must be 0, found ${r} and ${block}`)
    const [major = 0, minor = 0] = String(version ?? '0.0')
      .split('.')
      .map(Number)
    if (series && major === 0 && !(minor >= 18))
      throw new Error(
        `adapter_config.json: use_cayley_neumann with peft_version ${JSON.stringify(version ?? null)}, whose series was another before 0.18. Fold it with that version (merge_and_unload) and load the merged model`,
      )
  },
  make: (options) => oft(options as OftOptions),
  config: (held) => {
    mustTake('OFT', held, { embedding: true })
    return {}
  },
  parts: ({ site }) => ({ q: site.kind === 'embed' ? 'oft_embedding_R.weight' : 'oft_R.weight' }),
}
