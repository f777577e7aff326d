import type { Adapter, Params, Site } from '@weftjs/spec'
import { concat, keep, mul, pad, type Tensor, tensor, tidy, zeros } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { type LoraOptions, loraScale } from '../lora.ts'
import { type XLoraOptions, xLora } from '../x-lora.ts'
import { readPeftConfig } from './config.ts'
import { format as lora } from './formats/lora.ts'
import { peftOptions, targetsOf } from './load.ts'
import { PEFT_CONFIG, PEFT_PREFIX, PEFT_STEM } from './names.ts'

/** What to attach for an X-LoRA of PEFT, and the values of its tensors by the names that `attach` gives them. */
export interface XLoraFromPeft {
  readonly attachment: { readonly adapter: Adapter<any>; readonly at: (site: Site) => boolean }
  /** of the gate */
  readonly params: Params
  /** of the LoRAs, scaled by their α/r */
  readonly constants: Params
}

const GATE = 'base_model.internal_xlora_classifier.layers'

const optionsOf = (config: Readonly<Record<string, unknown>>, experts: number): XLoraOptions => {
  const of = <T>(key: string, test: (v: unknown) => boolean, wanted: string, fallback: T): T => {
    const found = config[key] ?? fallback
    if (found !== null && !test(found))
      throw new Error(`${PEFT_CONFIG}: ${key} must be ${wanted}, found ${JSON.stringify(found)}`)
    return found as T
  }
  const flag = (key: string, fallback: boolean): boolean =>
    of(key, (v) => typeof v === 'boolean', 'true or false', fallback)
  const number = (key: string, fallback: number): number =>
    of(key, (v) => typeof v === 'number' && Number.isFinite(v), 'a number', fallback)
  const whole = <T extends number | null>(key: string, fallback: T): T =>
    of(key, (v) => Number.isInteger(v) && (v as number) > 0, 'a whole number of at least 1', fallback)
  const top = whole('top_k_lora', null as number | null)
  return {
    ...{ experts, layerwise: flag('layerwise_scalings', false), depth: whole('xlora_depth', 1) },
    ...{ width: whole('xlora_size', 2048), dropout: number('xlora_dropout_p', 0.2) },
    ...{ temperature: number('softmax_temperature', 1), softmax: flag('enable_softmax', true) },
    ...{ softmaxTop: flag('enable_softmax_topk', false), first: number('scaling_pass_value', 0) },
    ...{ scale: number('global_scaling_weight', 1), trainExperts: flag('use_trainable_adapters', false) },
    ...(top !== null && { top }),
  }
}

const read = async (file: Checkpoint, name: string): Promise<Tensor> => {
  if (!file.has(name))
    throw new CheckpointError(
      'missing; PEFT 0.21 leaves out layers of a gate whose number is the name of an adapter: save them from its state_dict',
      { file: file.name, tensor: name },
    )
  return tensor(await file.floats(name), [...file.entry(name).shape])
}
const opened = async <T>(folder: Folder, f: (file: Checkpoint) => Promise<T>): Promise<T> => {
  const file = await openCheckpoint(folder, { stem: PEFT_STEM })
  try {
    return await f(file)
  } finally {
    await file.close()
  }
}

/**
 * An X-LoRA of PEFT: the folder of its gate, and those of the LoRAs in the order of its `adapters`. LoRAs of different ranks
 * are filled up with zeros to the largest.
 * @throws Error or CheckpointError that names the field, the tensor or the folder which is wrong
 */
export const xLoraFromPeft = async (
  folder: Folder,
  loras: readonly Folder[],
  sites: readonly Site[],
): Promise<XLoraFromPeft> => {
  const config = JSON.parse(await folder.text(PEFT_CONFIG)) as Readonly<Record<string, unknown>>
  if (config['peft_type'] !== 'XLORA')
    throw new Error(
      `${folder.name}/${PEFT_CONFIG}: peft_type must be "XLORA", found ${JSON.stringify(config['peft_type'])}`,
    )
  const named = Object.keys((config['adapters'] ?? {}) as object)
  if (named.length !== loras.length || !loras.length)
    throw new Error(
      `${folder.name}/${PEFT_CONFIG}: names ${named.length} adapters, and ${loras.length} folders were given`,
    )
  const options = optionsOf(config, loras.length)
  const experts = await Promise.all(
    loras.map(async (lora_) => {
      const own = await readPeftConfig(lora_, { formats: [lora] })
      const targets = targetsOf(lora, own, sites)
      const scale = loraScale(peftOptions(lora, own, targets) as LoraOptions)
      const odd = targets.find((s) => s.kind !== 'linear')
      if (odd) throw new Error(`${lora_.name}: adapts ${odd.name} (${odd.kind}), and X-LoRA here mixes linears alone`)
      const pairs = await opened(lora_, async (file) => {
        const found = new Map<string, { a: Tensor; b: Tensor }>()
        for (const s of targets) {
          const at = `${PEFT_PREFIX}${s.module}`
          const [a, b] = [await read(file, `${at}.lora_A.weight`), await read(file, `${at}.lora_B.weight`)]
          found.set(s.name, { a, b: mul(b, scale(s).factor) })
        }
        return found
      })
      return { targets, pairs }
    }),
  )
  const rank = Math.max(...experts.flatMap(({ pairs }) => [...pairs.values()].map(({ a }) => a.shape[0]!)))
  const adapted = sites.filter((s) => experts.some((e) => e.pairs.has(s.name)))
  const constants: Record<string, Tensor> = {}
  tidy(() => {
    for (const { name, weight } of adapted) {
      const [out, input] = weight!.shape
      const full = experts.map(({ pairs }) => {
        const pair = pairs.get(name)
        if (!pair) return { a: zeros([rank, input]), b: zeros([out, rank]) }
        const { a, b } = pair
        const more = rank - a.shape[0]!
        return {
          a: pad(a, [
            [0, more],
            [0, 0],
          ]),
          b: pad(b, [
            [0, 0],
            [0, more],
          ]),
        } // [r, in], [out, r]
      })
      constants[`${name}.x-lora.a`] = keep(
        concat(
          full.map((f) => f.a),
          0,
        ),
      ) // [n·r, in]
      constants[`${name}.x-lora.b`] = keep(
        concat(
          full.map((f) => f.b),
          1,
        ),
      ) // [out, n·r]
    }
  })
  for (const { pairs } of experts) for (const { a, b } of pairs.values()) for (const t of [a, b]) t.dispose()
  const params = await opened(folder, async (file) => {
    const found: Record<string, Tensor> = {}
    // between two linear layers stand ReLU and, where there is some, dropout
    const step = options.dropout ? 3 : 2
    for (let i = 0; i < options.depth!; i++)
      for (const [key, part] of [
        ['w', 'weight'],
        ['b', 'bias'],
      ])
        found[`model.x-lora.${key}${i}`] = await read(file, `${GATE}.${step * i}.${part}`)
    return found
  })
  const names = new Set(['model', 'norm', 'head', ...adapted.map((s) => s.name)])
  return {
    attachment: { adapter: xLora({ ...options, rank, alpha: rank }), at: ({ name }) => names.has(name) },
    params,
    constants,
  }
}
