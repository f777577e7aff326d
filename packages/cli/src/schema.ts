import { z } from 'zod'

const text = z.string().min(1)
const positive = z.number().positive()
const count = z.number().int().min(1)
const natural = z.number().int().min(0)
const globs = z.union([text, z.array(text).min(1)])
const fraction = z.number().min(0).lt(1)

const train = z.strictObject({
  /** optimizer steps in all */
  steps: count,
  /** rows of a batch */
  batch: count.default(8),
  /** tokens of a row */
  length: z.number().int().min(2).default(256),
  optimizer: z.enum(['adamw', 'sgd', 'lora_plus', 'lora_fa']).default('adamw'),
  /** what the optimizer's moments are kept in */
  states: z.enum(['float32', 'int8', 'int4']).optional(),
  lr: positive.default(2e-4),
  schedule: z.enum(['constant', 'linear', 'cosine', 'wsd']).default('cosine'),
  /** steps over which the rate rises from 0 */
  warmup: natural.default(0),
  /** steps of the last, falling part of `wsd` */
  decay: natural.optional(),
  seed: z.number().int().min(0).max(0xffff_ffff).default(0),
  weight_decay: z.number().min(0).default(0.01),
  /** of adamw and what is built on it */
  betas: z.tuple([fraction, fraction]).default([0.9, 0.999]),
  /** of lora_plus: how many times as fast as A the factor B learns, and the rate of an embedding's factors */
  ratio: positive.optional(),
  embedding_lr: positive.optional(),
  /** of sgd */
  momentum: fraction.default(0),
  /** largest norm of the gradient */
  clip: positive.optional(),
  /** batches per step */
  accumulate: count.default(1),
  /** keep only what goes into each block, and compute the block again in the backward pass */
  recompute: z.boolean().optional(),
  /** steps between checkpoints */
  checkpoint: count.default(100),
  /** steps between looks at the validation part */
  validate: count.optional(),
})

const data = z.strictObject({
  path: globs,
  format: z.enum(['text', 'completion', 'chat', 'ids']),
  /** of text: a regular expression between documents */
  split: text.optional(),
  /** of text in JSONL, CSV or Parquet: the field that holds it */
  field: text.optional(),
  /** of completion: a field's name, or a template as "{question}\n" */
  prompt: text.optional(),
  completion: text.optional(),
  /** of chat: the field that holds the messages */
  messages: text.optional(),
  /** of text: tokens from one window to the next */
  stride: count.optional(),
  /** part that is set aside to measure on */
  validation: z.number().min(0).max(0.5).default(0),
  /** a new order each epoch */
  shuffle: z.boolean().optional(),
  /** several examples to a row */
  pack: z.boolean().optional(),
})

/** options of the method stand beside these under its own names, in snake_case; what many methods have is checked here */
const newAdapter = z.looseObject({
  method: text,
  at: globs,
  name: z
    .string()
    .regex(/^[\w-]+$/, 'must be letters, digits, _ and -')
    .refine((n) => n !== 'whole', "'whole' stands for what trains whole; choose another")
    .optional(),
  rank: count.optional(),
  alpha: positive.optional(),
  dropout: fraction.optional(),
  rank_pattern: z.record(z.string(), count).optional(),
  alpha_pattern: z.record(z.string(), positive).optional(),
})
const oldAdapter = z.strictObject({ from: text })

/** the run file of `weft finetune` */
export const finetuneFile = z.strictObject({
  model: text,
  /** keeps the frozen matrices in few bits, or in the 16 that the checkpoint has */
  base: z
    .strictObject({
      /** its name, with options as `gptq:bits=3`, or as fields of their own: `{ name: gptq, bits: 3 }` */
      codec: z.union([text, z.object({ name: text }).catchall(z.unknown())]).optional(),
      at: globs.optional(),
      precision: z.enum(['float32', 'checkpoint']).optional(),
    })
    .optional(),
  adapters: z.array(z.union([oldAdapter, newAdapter])).default([]),
  /** tensors of the model itself that train whole: `**` for full fine-tuning */
  trains: globs.optional(),
  /** of methods that start from what the model does with the data */
  calibrate: z
    .strictObject({
      /** batches of the pass */
      batches: count.default(32),
      /** a file that keeps what the pass gathers; calibration.safetensors in `out` by default */
      cache: text.optional(),
    })
    .optional(),
  data,
  train,
  out: text,
})

/** the run file of `weft pretrain` */
export const pretrainFile = z.strictObject({
  /** fields of a Hugging Face config.json, or the path of one */
  config: z.union([text, z.record(z.string(), z.unknown())]),
  /** a folder with tokenizer.json, or mini */
  tokenizer: text,
  data,
  /** another file to measure on, in place of data.validation */
  validation: z.strictObject({ path: globs }).optional(),
  train,
  /** of the saved weights */
  dtype: z.enum(['F32', 'F16', 'BF16']).default('F32'),
  out: text,
})

/** Fields that mean something only where another has one of these values. */
const ONLY: readonly (readonly [field: string, other: string, values: readonly string[]])[] = [
  ['train.betas', 'train.optimizer', ['adamw', 'lora_plus', 'lora_fa']],
  ['train.ratio', 'train.optimizer', ['lora_plus']],
  ['train.embedding_lr', 'train.optimizer', ['lora_plus']],
  ['train.momentum', 'train.optimizer', ['sgd']],
  ['train.decay', 'train.schedule', ['wsd']],
  ['data.split', 'data.format', ['text']],
  ['data.field', 'data.format', ['text']],
  ['data.stride', 'data.format', ['text']],
  ['data.prompt', 'data.format', ['completion']],
  ['data.completion', 'data.format', ['completion']],
  ['data.messages', 'data.format', ['chat']],
]
const get = (value: unknown, path: string): unknown =>
  path.split('.').reduce<unknown>((v, key) => (v as Record<string, unknown> | undefined)?.[key], value)

/** What is wrong between fields that are each right: `given` as written, `settings` with the defaults. */
export const discord = (
  given: unknown,
  settings: { data: DataSettings; train: TrainSettings; adapters?: FinetuneFile['adapters']; trains?: unknown },
): string[] => {
  const { train, adapters, trains, data } = settings
  const found = ONLY.flatMap(([field, other, values]) => {
    const value = get(settings, other) as string
    return get(given, field) === undefined || values.includes(value)
      ? []
      : [`${field}: is only for ${other}: ${values.join(' or ')}, found ${value}; leave it out`]
  })
  if (train.decay !== undefined && train.warmup + train.decay > train.steps)
    found.push(
      `train.decay: ${train.decay} steps and ${train.warmup} of warm-up are more than train.steps (${train.steps}); lower one`,
    )
  if (data.stride !== undefined && data.stride > train.length)
    found.push(`data.stride: ${data.stride} passes over text, since train.length is ${train.length}; lower it`)
  if (adapters && !adapters.length && trains === undefined)
    found.push('adapters: nothing would train; add an adapter, or name tensors in "trains"')
  if (adapters?.some((a) => 'from' in a) && (adapters.length > 1 || trains !== undefined))
    found.push('adapters: { from } goes on from one PEFT adapter and stands alone; remove the others and "trains"')
  return found
}

export type FinetuneFile = z.infer<typeof finetuneFile>
export type PretrainFile = z.infer<typeof pretrainFile>
export type TrainSettings = z.infer<typeof train>
export type DataSettings = z.infer<typeof data>
export type AdapterSettings = z.infer<typeof newAdapter>
