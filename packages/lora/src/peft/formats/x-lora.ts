import { loraScale } from '../../lora.ts'
import { type XLoraOptions, xLora } from '../../x-lora.ts'
import { chance, flag, number, type PeftFormat, whole } from '../format.ts'
import { peftOptions, targetsOf } from '../meaning.ts'
import { lorasOf, readLoras } from '../x-lora.ts'
import { loadXLora } from '../x-lora-load.ts'
import { saveXLora } from '../x-lora-save.ts'
import { format as lora } from './lora.ts'

const isTop = (v: unknown): boolean => v === undefined || v === null || (Number.isInteger(v) && (v as number) > 0)

/**
 * XLORA  —  huggingface/peft, tuners/xlora: the gate in the folder itself, the LoRAs in folders `0`, `1`, ... of it. When
 * they are read, LoRAs of lower ranks are filled up with zeros, and the factors α/r go into B.
 */
export const format: PeftFormat = {
  type: 'XLORA',
  method: 'x-lora',
  fields: {
    layerwise: flag('layerwise_scalings', false),
    depth: whole('xlora_depth', 1, { fallback: 1 }),
    width: whole('xlora_size', 1, { fallback: 2048 }),
    dropout: chance('xlora_dropout_p', { fallback: 0.2 }),
    temperature: number('softmax_temperature', { fallback: 1 }),
    softmax: flag('enable_softmax', true),
    top: {
      ...{ key: 'top_k_lora', test: isTop, wanted: 'a whole number of at least 1, or null' },
      ...{ read: (v) => v ?? undefined, write: (v) => v ?? null },
    },
    softmaxTop: flag('enable_softmax_topk', false),
    first: number('scaling_pass_value', { fallback: 0 }),
    scale: number('global_scaling_weight', { fallback: 1 }),
    trainExperts: flag('use_trainable_adapters', false, { start: true }),
  },
  make: (options) => xLora(options as XLoraOptions),
  targets: (config, sites) => {
    const adapted = lorasOf(config).flatMap((c) => targetsOf(lora, c, sites))
    const odd = adapted.find((s) => s.kind !== 'linear')
    if (odd) throw new Error(`${odd.name} (${odd.kind}): a LoRA adapts it, and X-LoRA here mixes linears alone`)
    const names = new Set(['model', 'norm', 'head', ...adapted.map((s) => s.name)])
    return sites.filter((s) => names.has(s.name))
  },
  options: (config, targets) => {
    const loras = lorasOf(config)
    const ranks = loras.flatMap((c) => {
      const own = targetsOf(lora, c, targets)
      const at = loraScale(peftOptions(lora, c, own))
      return own.map((s) => at(s).rank)
    })
    const rank = Math.max(...ranks)
    return { experts: loras.length, rank, alpha: rank }
  },
  parts: {},
  folders: { read: readLoras, load: loadXLora, save: saveXLora },
}
