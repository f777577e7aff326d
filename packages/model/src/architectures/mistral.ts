import type { Architecture } from './architecture.ts'
import { reader } from './architecture.ts'
import { checked, decoderAliases, decoderConfig } from './llama.ts'

/** Llama with a sliding window in every layer, where `sliding_window` gives one  —  Jiang et al., arXiv:2310.06825 */
export const mistral: Architecture = {
  types: ['mistral'],
  config: (source) => {
    const c = decoderConfig(source)
    const sees = reader(source).maybe('sliding_window')
    if (sees === undefined) return checked(c)
    return checked({ ...c, window: reader(source).count('sliding_window'), sliding: c.sliding.map(() => true) })
  },
  aliases: decoderAliases,
}
