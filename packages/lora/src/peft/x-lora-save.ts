import type { Adapter } from '@weftjs/spec'
import { dispose, slice, type Tensor } from '@weftjs/tensor'
import { encodeFloats, writeSafetensors } from '@weftjs/tensor/checkpoint'
import { lora } from '../lora.ts'
import type { XLoraOptions } from '../x-lora.ts'
import { replicatedOf } from './base.ts'
import type { PeftConfig } from './config.ts'
import type { Folders } from './format.ts'
import { valueAt } from './meaning.ts'
import { pathOf } from './named.ts'
import { PEFT_CONFIG, PEFT_TENSORS } from './names.ts'
import { factorsOf, gateNames, LORAS } from './x-lora.ts'

/**
 * The gate in the folder itself, the LoRAs in folders `0`, `1`, ... of it: under other names PEFT 0.21 does not find them.
 * It finds none whose modules are not below `model.` (GPT-2's); we do.
 */
export const saveXLora: Folders['save'] = async ({ format, sink, tuned, params, options, savePeft, writeConfig }) => {
  const { base, task, dtype = 'F32', config: from, name } = options
  const { bound, network, sites } = tuned
  const [first] = bound
  const other = bound.find((b) => b.name !== first!.name)
  if (other)
    throw new Error(
      `${other.site.name}: an X-LoRA file holds nothing beside it, and '${other.adapter.name}' is here; save them apart`,
    )
  const owned = bound.map((b) => `${b.prefix}.`)
  const whole = Object.keys(tuned.params).find((n) => !owned.some((start) => n.startsWith(start)))
  if (whole !== undefined) throw new Error(`${whole}: trained beside an X-LoRA, and PEFT has no place for it there`)
  if (replicatedOf(network)) throw new Error('PEFT has no X-LoRA for replicated layers; fold or train it without them')
  const linears = bound.filter((b) => b.site.kind === 'linear')
  const own = first!.adapter.options as XLoraOptions
  const { rank = 8 } = own
  const all = { ...tuned.constants, ...params }
  const numbers = factorsOf(own).map((_, i) => `${i}`)
  for (const [i, factor] of factorsOf(own).entries()) {
    const adapter: Adapter<any> = lora({ rank, alpha: factor * rank, anyRank: true })
    const state: Record<string, Tensor> = {}
    for (const { prefix, site } of linears) {
      const [out, input] = site.weight!.shape
      state[`${site.name}.lora.a`] = slice(all[`${prefix}.a`]!, [i * rank, 0], [rank, input]) // [r, in]
      state[`${site.name}.lora.b`] = slice(all[`${prefix}.b`]!, [0, i * rank], [out, rank]) // [out, r]
    }
    const at = linears.map(({ site }) => ({ site, adapter, name: 'lora', prefix: `${site.name}.lora` }))
    const one = { network, sites, bound: at, params: state, constants: {} }
    try {
      await savePeft((file) => sink(pathOf(name, `${numbers[i]}/${file}`)), one, state, {
        ...{ dtype, embeddings: false, ...(base !== undefined && { base }), ...(task !== undefined && { task }) },
      })
    } finally {
      dispose(Object.values(state))
    }
  }
  const model = bound.find((b) => b.site.kind === 'model')!
  const held = { site: model.site, adapter: model.adapter, state: {} }
  const { [LORAS]: _, ...kept } = { ...from } as Readonly<Record<string, unknown>>
  const config = {
    ...kept,
    ...{ peft_type: format.type, task_type: task === undefined ? (from?.task_type ?? 'CAUSAL_LM') : task },
    ...{ base_model_name_or_path: base ?? from?.base_model_name_or_path ?? null, inference_mode: true },
    hidden_size: model.site.in,
    adapters: Object.fromEntries(numbers.map((n) => [n, n])),
    ...Object.fromEntries(Object.entries(format.fields).map(([key, field]) => [field.key, valueAt(field, key, held)])),
  }
  const tensors = gateNames(own).map(([ours, file]) => {
    const t = all[`${model.prefix}.${ours}`]!
    const data = async () => encodeFloats(dtype, (await t.data()) as Float32Array, { tensor: file })
    return { name: file, dtype, shape: t.shape, data }
  })
  await writeSafetensors(await sink(pathOf(name, PEFT_TENSORS)), tensors, { format: 'pt' })
  await writeConfig(await sink(pathOf(name, PEFT_CONFIG)), config)
  return config as unknown as PeftConfig
}
