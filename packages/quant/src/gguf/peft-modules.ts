import type { Config } from '@weftjs/spec'
import { type Checkpoint, CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import type { LoraModule } from './adapter.ts'

/** of a PEFT folder */
export const CONFIG = 'adapter_config.json'
export const STEM = 'adapter_model'
export const PREFIX = 'base_model.model.'

/** What a PEFT folder holds, for `ggufAdapter`. */
export interface PeftModules {
  readonly modules: LoraModule[]
  /** which the numbers are read from, and which is to be closed */
  readonly checkpoint: Checkpoint
  /** the model that its config names */
  readonly base?: string
  /** of an activated LoRA: the tokens that call it */
  readonly invocation?: readonly number[]
}

/** the one value of a module by patterns as PEFT has them: a regular expression for the end of its path */
const patterned = (pattern: unknown, module: string, fallback: number): number => {
  for (const [key, value] of Object.entries((pattern ?? {}) as Record<string, number>)) {
    const found = new RegExp(`^(?:.*\\.)?(?:${key})$`)
    if (found.test(module)) return value
  }
  return fallback
}

/** LoRA with something in its pass that is more than A and B */
const OTHERWISE = [
  ...['use_dora', 'use_qalora', 'use_bdlora', 'lora_bias', 'layer_replication'],
  ...['kasa_config', 'arrow_config', 'monteclora_config'],
]
/** beginnings that leave the base as it is */
const STARTS: readonly unknown[] = [true, false, 'gaussian', 'orthogonal', 'eva']

/**
 * The modules of a PEFT folder whose method is LoRA, rank and scale of each as its config says.
 * @throws CheckpointError for another method, and for what a GGUF LoRA has no place for: biases, whole modules, DoRA
 */
export const peftModules = async (folder: Folder): Promise<PeftModules> => {
  const file = `${folder.name}/${CONFIG}`
  const c = JSON.parse(await folder.text(CONFIG)) as Config
  const refuse = (found: string): never => {
    throw new CheckpointError(`${found}; merge the adapter into the model and export that`, { file })
  }
  if (c['peft_type'] !== 'LORA') refuse(`is ${JSON.stringify(c['peft_type'])}, and llama.cpp knows LoRA alone`)
  for (const key of OTHERWISE) if (c[key]) refuse(`${key}: llama.cpp does not compute it`)
  const start = c['init_lora_weights'] ?? true
  if (!STARTS.includes(start))
    refuse(
      `init_lora_weights ${JSON.stringify(start)}: its numbers are for a base of its own, not for the model as it is`,
    )
  const checkpoint = await openCheckpoint(folder, { stem: STEM })
  try {
    const modules = checkpoint.names.flatMap((name): LoraModule[] => {
      // the base's own table, which PEFT saves beside an adapter of it
      if (name.endsWith('.base_layer.weight')) return []
      const found = /^base_model\.model\.(.+)\.lora_(embedding_)?([AB])(\.weight)?$/.exec(name)
      if (!found) return refuse(`the tensor ${name} is no part of a LoRA`)
      if (found[3] === 'B') return []
      const [, module, embedding = '', , suffix = ''] = found as unknown as [string, string, string?, string?, string?]
      const other = `${PREFIX}${module}.lora_${embedding}B${suffix}`
      const [a, b] = [checkpoint.entry(name), checkpoint.entry(other)]
      const [rank, input] = a.shape as [number, number]
      if (a.shape.length !== 2 || b.shape.length !== 2 || b.shape[1] !== rank)
        refuse(`${module}: A [${a.shape}] and B [${b.shape}] are no pair of matrices`)
      const r = patterned(c['rank_pattern'], module, Number(c['r']))
      const alpha = patterned(c['alpha_pattern'], module, Number(c['lora_alpha']))
      return [
        {
          module,
          rank,
          a: () => checkpoint.floats(name),
          b: () => checkpoint.floats(other),
          in: input,
          out: b.shape[0]!,
          scale: alpha / (c['use_rslora'] ? Math.sqrt(r) : r),
        },
      ]
    })
    const [base, invocation] = [c['base_model_name_or_path'], c['alora_invocation_tokens']]
    return {
      ...{ modules, checkpoint },
      ...(typeof base === 'string' && base && { base }),
      ...(Array.isArray(invocation) && invocation.length && { invocation: invocation as number[] }),
    }
  } catch (error) {
    await checkpoint.close()
    throw error
  }
}
