import type { Config } from '@weftjs/spec'
import type { TransformerConfig } from '../config.ts'
import { type Architecture, reader } from './architecture.ts'
import { checked, decoderAliases, decoderConfig } from './llama.ts'

/** per layer: `layer_types`, or a rule where there are none */
export const slidingLayers = (source: Config, layers: number, rule: (layer: number) => boolean): boolean[] => {
  const types = reader(source).list('layer_types')
  if (!types) return Array.from({ length: layers }, (_, i) => rule(i))
  const odd = types.find((t) => t !== 'sliding_attention' && t !== 'full_attention')
  if (odd !== undefined || types.length !== layers)
    throw new Error(
      odd === undefined
        ? `config.json: layer_types has ${types.length} entries for ${layers} layers; it needs one for each`
        : `config.json: layer_types: '${odd}' is not supported; supported are full_attention, sliding_attention`,
    )
  return types.map((t) => t === 'sliding_attention')
}

/** Qwen's layers from `max_window_layers` on see a window, where `use_sliding_window` says so */
export const withWindow = <C extends TransformerConfig>(c: C): C => {
  const r = reader(c.source)
  if (!r.flag('use_sliding_window', false)) return c
  const full = r.number('max_window_layers', 28)
  return { ...c, window: r.count('sliding_window'), sliding: slidingLayers(c.source, c.layers, (i) => i >= full) }
}

/** Llama with biases on q, k and v  —  Yang et al., arXiv:2407.10671 */
export const qwen2: Architecture = {
  types: ['qwen2'],
  config: (source) => checked(withWindow(decoderConfig(source, { biases: ['attn.q', 'attn.k', 'attn.v'] }))),
  aliases: decoderAliases,
}
