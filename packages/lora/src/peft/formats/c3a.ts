import { type C3aOptions, c3a } from '../../c3a.ts'
import { oneOf, type PeftFormat, whole } from '../format.ts'

const STARTS = { gaussian: 'gaussian', kaiming_uniform: 'kaiming', xavier_uniform: 'xavier' } as const

/** C3A  —  huggingface/peft, tuners/c3a */
export const format: PeftFormat = {
  type: 'C3A',
  method: 'c3a',
  fields: {
    block: whole('block_size', 1, {
      fallback: 256,
      pattern: 'block_size_pattern',
      of: ({ state }) => state['w']!.shape[2],
    }),
    init: oneOf('init_weights', [true, false, ...Object.keys(STARTS)], 'xavier_uniform', {
      read: (v) => (v === true ? 'zeros' : STARTS[v as keyof typeof STARTS]),
      write: (v) =>
        v === 'zeros' ? true : (Object.entries(STARTS).find(([, ours]) => ours === v)?.[0] ?? 'xavier_uniform'),
      start: true,
    }),
  },
  make: (options) => c3a(options as C3aOptions),
  // of these patterns PEFT looks for what stands behind some dot, to the end
  config: (held) => {
    const blocks = held.map((h) => h.state['w']!.shape[2]!)
    const size = blocks[0]!
    return {
      block_size: size,
      block_size_pattern: Object.fromEntries(
        held.flatMap(({ site }, i) =>
          blocks[i] === size
            ? []
            : [[site.module!.split('.').slice(1).join('\\.') || site.module!, blocks[i]] as const],
        ),
      ),
    }
  },
  parts: { w: 'c3a_kernel' },
}
