import type { Config } from '@weftjs/spec'
import type { GgufField, GgufScalarType } from './field.ts'
import { preOf } from './pre.ts'

/** What a Hugging Face folder says of its tokenizer, as JSON. */
export interface TokenizerFiles {
  readonly tokenizer: Config
  /** tokenizer_config.json, generation_config.json and config.json, {} where absent */
  readonly config?: Config
  readonly generation?: Config
  readonly model?: Config
  /** chat_template.jinja, or what tokenizer_config.json has */
  readonly template?: string | undefined
}

/** kinds of tokens in `tokenizer.ggml.token_type` */
export const KIND = { normal: 1, unknown: 2, control: 3, user: 4, unused: 5, byte: 6 } as const

type Part = Readonly<Record<string, unknown>>
const record = (value: unknown): Part | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Part) : undefined
const fail = (found: string): never => {
  throw new Error(`tokenizer.json: ${found}`)
}

interface Added {
  readonly id: number
  readonly content: string
  readonly special: boolean
}
/** the text of a token, which may be an object with it */
const contentOf = (value: unknown): string | undefined => {
  const text = typeof value === 'string' ? value : record(value)?.['content']
  return typeof text === 'string' ? text : undefined
}

/** pairs, or strings with a space between */
const pairOf = (merge: unknown): readonly [string, string] => {
  const pair = typeof merge === 'string' ? merge.split(' ') : merge
  return Array.isArray(pair) && pair.length === 2 && pair.every((p) => typeof p === 'string')
    ? (pair as unknown as [string, string])
    : fail(`a merge is ${JSON.stringify(merge)}, not two pieces`)
}

/**
 * A tokenizer as the metadata of a GGUF file: byte-level BPE (`gpt2` there) with its merges, or BPE over characters with
 * bytes for what is unknown (SentencePiece's, `llama` there), whose merges become scores. `size` rows of the embedding
 * that no token has are filled up.
 * @throws Error for another kind of tokenizer, and for a way of cutting texts that llama.cpp has no name for
 */
export const vocabularyOf = (
  files: TokenizerFiles,
  size: number,
  pre?: string,
): readonly (readonly [string, GgufField])[] => {
  const json = files.tokenizer
  const model = record(json['model']) ?? fail('has no model')
  if (model['type'] !== 'BPE')
    fail(
      `its model is ${JSON.stringify(model['type'])}; only BPE, byte-level or SentencePiece's, has a place in GGUF here`,
    )
  const vocab = record(model['vocab']) ?? fail('its model has no vocab')
  const added = ((json['added_tokens'] ?? []) as readonly Added[]).filter((a) => a.id < size)
  const tokens: (string | undefined)[] = Array.from({ length: size })
  for (const [token, id] of Object.entries(vocab)) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= size)
      fail(
        `token ${JSON.stringify(token)} has the id ${id}, and the embedding ${size} rows; use the model's own tokenizer`,
      )
    tokens[id as number] = token
  }
  for (const { id, content } of added) tokens[id] = content
  const merges = ((model['merges'] ?? []) as readonly unknown[]).map(pairOf)
  const spm = model['byte_fallback'] === true
  const unknown = contentOf(model['unk_token'])
  const kinds = tokens.map((t) =>
    t === undefined
      ? KIND.unused
      : spm && /^<0x[0-9A-F]{2}>$/.test(t)
        ? KIND.byte
        : t === unknown && spm
          ? KIND.unknown
          : KIND.normal,
  ) as number[]
  for (const { id, special } of added) if (kinds[id] === KIND.normal) kinds[id] = special ? KIND.control : KIND.user

  const fields: [string, GgufField][] = []
  const put = (key: string, field: GgufField): void => void fields.push([`tokenizer.${key}`, field])
  const list = (key: string, of: GgufScalarType, value: readonly (string | number)[]): void =>
    put(`ggml.${key}`, { type: 'array', of, value })
  put('ggml.model', { type: 'string', value: spm ? 'llama' : 'gpt2' })
  const known = tokens.filter((t) => t !== undefined)
  const name = pre ?? (spm ? 'default' : preOf(json, known))
  if (name === undefined)
    fail(
      "its pre_tokenizer is none that llama.cpp has a name for; say which comes nearest by 'pre' (gpt-2, llama-bpe, qwen2 ...)",
    )
  put('ggml.pre', { type: 'string', value: name! })
  list(
    'tokens',
    'string',
    tokens.map((t, i) => t ?? `[PAD${i}]`),
  )
  if (spm) list('scores', 'f32', scoresOf(tokens, kinds, merges))
  list('token_type', 'i32', kinds)
  if (!spm)
    list(
      'merges',
      'string',
      merges.map(([a, b]) => `${a} ${b}`),
    )
  for (const [key, field] of endsOf(files, tokens as readonly string[], spm)) put(key, field)
  if (spm) put('ggml.add_space_prefix', { type: 'bool', value: prefixOf(json) })
  if (files.template !== undefined) put('chat_template', { type: 'string', value: files.template })
  return fields
}

/**
 * SentencePiece merges the pair whose result scores highest: minus the place of the first merge that makes it. Pieces that
 * no merge makes come last, and what is no piece scores 0, as SentencePiece's own files have it.
 */
const scoresOf = (
  tokens: readonly (string | undefined)[],
  kinds: readonly number[],
  merges: readonly (readonly [string, string])[],
): number[] => {
  const rank = new Map<string, number>()
  for (const [a, b] of merges) if (!rank.has(a + b)) rank.set(a + b, rank.size)
  let next = rank.size
  return tokens.map((t, i) => {
    if (kinds[i] === KIND.user) return 0
    if (t === undefined || kinds[i] !== KIND.normal) return 0
    return -(rank.get(t) ?? next++)
  })
}

/** is a space put before the text? */
const prefixOf = (json: Config): boolean => {
  const text = JSON.stringify([json['normalizer'] ?? null, json['pre_tokenizer'] ?? null])
  return /"type":"Prepend"/.test(text) || (/"type":"Metaspace"/.test(text) && !/"prepend_scheme":"never"/.test(text))
}

/** what stands around a text: ids, and whether they are added */
const endsOf = (
  { tokenizer: json, config = {}, generation = {}, model = {} }: TokenizerFiles,
  tokens: readonly string[],
  spm: boolean,
): readonly (readonly [string, GgufField])[] => {
  const ids = new Map(tokens.map((t, i) => [t, i]))
  const named = (role: string): number | undefined => {
    const text = contentOf(config[`${role}_token`])
    return text === undefined ? undefined : ids.get(text)
  }
  const stated = (role: string): readonly number[] =>
    [generation[`${role}_token_id`] ?? model[`${role}_token_id`]]
      .flat()
      .filter((n): n is number => Number.isInteger(n) && (n as number) >= 0 && (n as number) < tokens.length)
  const around = around1(json, ids)
  const bos = named('bos') ?? stated('bos')[0]
  const ends = stated('eos')
  const eos = named('eos') ?? ends[0]
  const fields: [string, GgufField][] = []
  const id = (key: string, value: number | undefined): void => {
    if (value !== undefined) fields.push([`ggml.${key}_token_id`, { type: 'u32', value }])
  }
  id('bos', bos)
  id('eos', eos)
  id(
    'eot',
    ends.find((n) => n !== eos),
  )
  id('unknown', spm ? (named('unk') ?? ids.get(contentOf(record(json['model'])?.['unk_token']) ?? '')) : named('unk'))
  id('padding', named('pad') ?? stated('pad')[0])
  const added = (key: 'bos' | 'eos', token: number | undefined, found: boolean): void => {
    const said = config[`add_${key}_token`]
    const value = token !== undefined && (typeof said === 'boolean' ? said : found)
    fields.push([`ggml.add_${key}_token`, { type: 'bool', value }])
  }
  added('bos', bos, bos !== undefined && around.before.includes(bos))
  added('eos', eos, eos !== undefined && around.after.includes(eos))
  return fields
}

/** the special tokens that a post-processor puts before and after one text */
const around1 = (
  json: Config,
  ids: ReadonlyMap<string, number>,
): { readonly before: readonly number[]; readonly after: readonly number[] } => {
  const templates = (part: Part | undefined): readonly Part[] =>
    part?.['type'] === 'Sequence'
      ? ((part['processors'] ?? []) as readonly unknown[]).flatMap((p) => templates(record(p)))
      : part?.['type'] === 'TemplateProcessing'
        ? [part]
        : []
  const [before, after]: [number[], number[]] = [[], []]
  for (const template of templates(record(json['post_processor']))) {
    let passed = false
    for (const piece of (template['single'] ?? []) as readonly unknown[]) {
      const special = record(record(piece)?.['SpecialToken'])?.['id']
      const id = typeof special === 'string' ? ids.get(special) : undefined
      if (id === undefined) passed = true
      else (passed ? after : before).push(id)
    }
  }
  return { before, after }
}
