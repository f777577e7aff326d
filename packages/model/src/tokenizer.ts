import { Template } from '@huggingface/jinja'
import { Tokenizer as Pieces } from '@huggingface/tokenizers'
import type { Config, Message, Tokenizer } from '@weftjs/spec'
import { CheckpointError, type Folder } from '@weftjs/tensor/checkpoint'
import { readJson } from './load.ts'

/** A tokenizer read from a folder, with what the folder says about the ends of texts. */
export interface ModelTokenizer extends Tokenizer {
  /** ids that end an answer: generation_config.json's list, or EOS */
  readonly ends: readonly number[]
  /** ids of special tokens, which `skipSpecial` leaves out */
  readonly specials: ReadonlySet<number>
  /** a token's id by its exact name, `<|im_end|>` */
  id(token: string): number | undefined
  /** the name of an id as the vocabulary has it */
  token(id: number): string | undefined
}

/**
 * The tokenizer of a Hugging Face folder: tokenizer.json, and where there are tokenizer_config.json,
 * special_tokens_map.json, generation_config.json, config.json and chat_template.jinja. `encode` adds special tokens
 * unless `special: false`; `decode` keeps them unless `skipSpecial: true`, and never removes spaces before punctuation
 * (`clean_up_tokenization_spaces`), so that decode gives back what encode was given.
 * @throws CheckpointError without a tokenizer.json, or for one that cannot be used
 */
export const loadTokenizer = async (folder: Folder): Promise<ModelTokenizer> => {
  if (!(await folder.has('tokenizer.json'))) {
    const slow = (await Promise.all(SLOW.map(async (f) => ((await folder.has(f)) ? f : '')))).filter(Boolean)
    throw new CheckpointError(
      slow.length
        ? `no tokenizer.json, only ${slow.join(', ')}; convert it once with Python: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`
        : "no tokenizer.json; copy it from the model's page on the hub into the folder",
      { file: folder.name },
    )
  }
  const maybe = async (file: string): Promise<Config> => ((await folder.has(file)) ? readJson(folder, file) : {})
  const json = await readJson(folder, 'tokenizer.json')
  const [own, map, generation, model] = [
    await maybe('tokenizer_config.json'),
    await maybe('special_tokens_map.json'),
    await maybe('generation_config.json'),
    await maybe('config.json'),
  ]
  const config = { ...map, ...own }
  const template = (await folder.has('chat_template.jinja'))
    ? await folder.text('chat_template.jinja')
    : templateOf(config['chat_template'])
  const { pieces, edges } = open(json, config, `${folder.name}/tokenizer.json`)
  return tokenizer(pieces, config, {
    edges,
    stated: generation['eos_token_id'] ?? model['eos_token_id'],
    template,
    place: folder.name,
  })
}

const SLOW = ['tokenizer.model', 'vocab.json', 'merges.txt', 'vocab.txt', 'spiece.model', 'sentencepiece.bpe.model']

/** the library's tokenizer, tried on one letter, so that a part it cannot use is found here */
const open = (json: Config, config: Config, file: string): { pieces: Pieces; edges: Edges } => {
  // parts that the format lets be absent and the library wants stated
  const whole = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...json,
  }
  try {
    const pieces = new Pieces(whole, { ...config, clean_up_tokenization_spaces: false })
    if (!pieces.get_vocab().size) throw new Error('its vocabulary is empty')
    const edges = around(pieces)
    pieces.decode([...pieces.get_vocab().values()].slice(0, 1))
    return { pieces, edges }
  } catch (error) {
    throw new CheckpointError(
      `not a tokenizer that can be used (${(error as Error).message}); download it again, or save it anew with a recent transformers`,
      { file },
      { cause: error },
    )
  }
}

type Edges = readonly [before: readonly number[], after: readonly number[]]
interface Said {
  readonly edges: Edges
  readonly stated: unknown
  readonly template: string | undefined
  readonly place: string
}

const tokenizer = (
  pieces: Pieces,
  config: Config,
  { edges: [before, after], stated, template, place }: Said,
): ModelTokenizer => {
  const added = [...pieces.get_added_tokens_decoder().values()]
  const specials = new Set(added.filter((t) => t.special).map((t) => t.id))
  let vocabulary = 0
  for (const id of pieces.get_vocab().values()) vocabulary = Math.max(vocabulary, id + 1)
  const id = (token: string): number | undefined => pieces.token_to_id(token)
  const named = (role: string): string | undefined => contentOf(config[role])
  const idOf = (role: string): number | undefined => {
    const token = named(role)
    return token === undefined ? undefined : id(token)
  }
  const [bos, pad] = [idOf('bos_token'), idOf('pad_token')]
  const listed = [stated].flat().filter((e): e is number => typeof e === 'number')
  const eos = idOf('eos_token') ?? listed[0]
  const ends = listed.length ? listed : eos === undefined ? [] : [eos]
  const plain = (text: string): number[] => (text ? pieces.encode(text, { add_special_tokens: false }).ids : [])

  const edge = (
    given: readonly number[],
    add: unknown,
    token: number | undefined,
    first: boolean,
  ): readonly number[] => {
    if (typeof add !== 'boolean' || token === undefined) return given
    const rest = given.filter((g) => g !== token)
    return !add ? rest : first ? [token, ...rest] : [...rest, token]
  }
  const head = edge(before, config['add_bos_token'], bos, true)
  const tail = edge(after, config['add_eos_token'], idOf('eos_token'), false)

  const compiled = template === undefined ? undefined : compile(template, place)
  const names = Object.fromEntries(
    Object.keys(config).flatMap((key) =>
      key.endsWith('_token') && named(key) !== undefined ? [[key, named(key)]] : [],
    ),
  )
  return {
    vocabulary,
    ...(bos !== undefined && { bos }),
    ...(eos !== undefined && { eos }),
    ...(pad !== undefined && { pad }),
    ends,
    specials,
    id,
    token: (n) => pieces.id_to_token(n),
    encode: (text, { special = true } = {}) => {
      const ids = plain(text)
      const lost = ids.findIndex((n) => n === undefined || n === null)
      if (lost >= 0)
        throw new Error(
          `the tokenizer of ${place} has no token for a piece of ${JSON.stringify(text.slice(0, 60))}, nor one for what is unknown; use the tokenizer that was trained with the model`,
        )
      return special ? [...head, ...ids, ...tail] : ids
    },
    decode: (ids, { skipSpecial = false } = {}) => {
      // ids that the embedding has and the vocabulary has not (padding of the matrix) have no text
      const known = ids.filter((n) => pieces.id_to_token(n) !== undefined && !(skipSpecial && specials.has(n)))
      return known.length ? pieces.decode(known) : ''
    },
    ...(compiled && {
      chat: (messages: readonly Message[], { generationPrompt = false } = {}) => {
        try {
          return compiled.render({ ...names, messages, add_generation_prompt: generationPrompt, tools: null })
        } catch (error) {
          throw new Error(
            `the chat template of ${place} refuses these messages: ${(error as Error).message}; check their roles and order`,
            { cause: error },
          )
        }
      },
    }),
  }
}

/** what the post-processor puts before and after a text */
const around = (pieces: Pieces): Edges => {
  const bare = pieces.encode('a', { add_special_tokens: false }).ids
  const full = pieces.encode('a').ids
  const at = full.findIndex((_, i) => bare.every((id, j) => full[i + j] === id))
  return [full.slice(0, at), full.slice(at + bare.length)]
}

/** a token as tokenizer_config.json states it: its text, or an object with it */
const contentOf = (value: unknown): string | undefined => {
  if (typeof value === 'string') return value
  const content = (value as { content?: unknown } | null | undefined)?.content
  return typeof content === 'string' ? content : undefined
}

/** one template, or of several named ones the default */
const templateOf = (value: unknown): string | undefined => {
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return undefined
  const named = value as { name?: unknown; template?: unknown }[]
  const found = (named.find((t) => t.name === 'default') ?? named[0])?.template
  return typeof found === 'string' ? found : undefined
}

const compile = (template: string, place: string): Template => {
  try {
    return new Template(template)
  } catch (error) {
    throw new CheckpointError(
      `the chat template cannot be read: ${(error as Error).message}; correct it or remove it`,
      {
        file: place,
      },
    )
  }
}

/** messages → ids by the model's chat template, which names its own special tokens @throws Error where there is none */
export const encodeChat = (
  tokenizer: Tokenizer,
  messages: readonly Message[],
  { generationPrompt = true }: { generationPrompt?: boolean } = {},
): number[] => {
  if (!tokenizer.chat)
    throw new Error(
      'this model has no chat template; use one that is tuned for chat, or add chat_template to tokenizer_config.json, or pass plain text',
    )
  return tokenizer.encode(tokenizer.chat(messages, { generationPrompt }), { special: false })
}

/** @throws Error where the tokenizer can give ids that the model has no row for: it belongs to another model */
export const checkTokenizer = (
  tokenizer: Tokenizer & { readonly specials?: ReadonlySet<number> },
  { vocabulary, architecture }: { readonly vocabulary: number; readonly architecture?: string },
): void => {
  // checkpoints do ship special tokens beyond the matrix (Gemma 3's image token); no text encodes to them
  let size = tokenizer.vocabulary
  while (size > vocabulary && tokenizer.specials?.has(size - 1)) size--
  if (size > vocabulary)
    throw new Error(
      `the tokenizer does not match the model: it has ${size} tokens and the ${architecture ? `${architecture} ` : ''}embedding ${vocabulary} rows; use the tokenizer.json that came with the model`,
    )
}
