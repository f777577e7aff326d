import type { Config } from '@weftjs/spec'
import type { Fields } from './field.ts'
import { pres, preTokenizer } from './pre.ts'
import { KIND } from './vocabulary-out.ts'

/** tokens that end an answer whatever the file says, as llama.cpp has it too */
const ENDINGS = ['<|eot_id|>', '<|im_end|>', '<|end|>', '<end_of_turn>', '<|endoftext|>', '<|eom_id|>', '<EOT>']
/** longest piece of a SentencePiece vocabulary whose merges are worked out; the longest known have 48 characters */
const LONGEST = 256

/** The files of a Hugging Face folder that are about its tokenizer. */
export interface MadeTokenizer {
  readonly tokenizer: Config
  readonly config: Config
  readonly generation: Config
}

const added = (id: number, content: string, special: boolean): Config => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special,
})

/**
 * tokenizer.json, tokenizer_config.json and generation_config.json, made from the metadata of a GGUF file.
 * @throws CheckpointError that names the field for a tokenizer of another kind than `gpt2` and `llama`
 */
export const vocabularyIn = (fields: Fields): MadeTokenizer => {
  const key = (name: string): string => `tokenizer.ggml.${name}`
  const kind = fields.text(key('model'))
  const tokens = fields.texts(key('tokens'))
  if ((kind !== 'gpt2' && kind !== 'llama') || !tokens)
    return fields.fail(
      key('model'),
      `${JSON.stringify(kind)}: tokenizers of this kind are not read from GGUF, gpt2 and llama are; put the model's tokenizer.json beside the file`,
    )
  const kinds = fields.numbers(key('token_type')) ?? tokens.map(() => KIND.normal)
  const id = (role: string): number | undefined => {
    const found = fields.number(key(`${role}_token_id`))
    return found !== undefined && found >= 0 && found < tokens.length ? found : undefined
  }
  const spm = kind === 'llama'
  const preName = fields.text(key('pre')) ?? 'default'
  const pre = spm ? undefined : pres[Object.hasOwn(pres, preName) ? preName : '']
  if (!spm && !pre)
    fields.fail(key('pre'), `${JSON.stringify(preName)} is not known; put the model's tokenizer.json beside the file`)
  const bos = id('bos') ?? (spm ? 1 : undefined)
  const eos = id('eos') ?? (spm ? 2 : undefined)
  const addBos = bos !== undefined && (fields.flag(key('add_bos_token')) ?? (spm || pre?.bos === true))
  const addEos = eos !== undefined && (fields.flag(key('add_eos_token')) ?? false)
  const special = (n: number): boolean => kinds[n] === KIND.control || kinds[n] === KIND.unknown
  const vocab: Record<string, number> = Object.create(null)
  // rows of the embedding that no token has
  for (const [i, t] of tokens.entries()) if (kinds[i] !== KIND.unused && !Object.hasOwn(vocab, t)) vocab[t] = i
  const piece = (n: number): Config => ({ SpecialToken: { id: tokens[n], type_id: 0 } })
  const single = [
    ...(addBos ? [piece(bos!)] : []),
    { Sequence: { id: 'A', type_id: 0 } },
    ...(addEos ? [piece(eos!)] : []),
  ]
  const used = [...(addBos ? [bos!] : []), ...(addEos ? [eos!] : [])]
  const prefix = fields.flag(key('add_space_prefix')) ?? true
  const unknown = spm ? (id('unknown') ?? 0) : undefined
  const tokenizer: Config = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((t, i) => (special(i) || kinds[i] === KIND.user ? [added(i, t, special(i))] : [])),
    normalizer: spm
      ? {
          type: 'Sequence',
          normalizers: [
            ...(prefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
            { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
          ],
        }
      : null,
    pre_tokenizer: spm ? null : preTokenizer(pre!),
    post_processor: {
      type: 'TemplateProcessing',
      single,
      pair: [...single, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: Object.fromEntries(
        used.map((n) => [tokens[n]!, { id: tokens[n], ids: [n], tokens: [tokens[n]] }]),
      ),
    },
    decoder: spm
      ? {
          type: 'Sequence',
          decoders: [
            { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
            { type: 'ByteFallback' },
            { type: 'Fuse' },
            ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
          ],
        }
      : { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown === undefined ? null : tokens[unknown],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: spm,
      byte_fallback: spm,
      ignore_merges: pre?.ignoreMerges ?? false,
      vocab: Object.fromEntries(Object.entries(vocab)),
      merges: spm ? mergesFrom(tokens, kinds, fields) : mergesIn(fields),
    },
  }
  const endings = ENDINGS.flatMap((t) => (vocab[t] !== undefined && special(vocab[t]!) ? [vocab[t]!] : []))
  const ends = [...new Set([eos, id('eot'), id('eom'), ...endings].filter((n) => n !== undefined))]
  const name = (role: string, n: number | undefined): Config =>
    n === undefined ? {} : { [`${role}_token`]: tokens[n] }
  const template = fields.text('tokenizer.chat_template')
  const ids = {
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0] : ends }),
    ...(id('padding') !== undefined && { pad_token_id: id('padding') }),
  }
  return {
    tokenizer,
    config: {
      add_bos_token: addBos,
      add_eos_token: addEos,
      ...name('bos', bos),
      ...name('eos', eos),
      ...name('unk', unknown ?? id('unknown')),
      ...name('pad', id('padding')),
      ...(template !== undefined && { chat_template: template }),
      clean_up_tokenization_spaces: false,
      tokenizer_class: 'PreTrainedTokenizerFast',
    },
    generation: ids,
  }
}

/** "a b": the space that parts them is the first but for the first character */
const mergesIn = (fields: Fields): (readonly [string, string])[] => {
  const key = 'tokenizer.ggml.merges'
  const merges = fields.texts(key) ?? fields.fail(key, 'is not there, and byte-level BPE cannot do without')
  return merges.map((merge) => {
    const at = merge.indexOf(' ', 1)
    return at > 0
      ? [merge.slice(0, at), merge.slice(at + 1)]
      : fields.fail(key, `${JSON.stringify(merge)} is not two pieces`)
  })
}

/** every cut of a piece into two pieces is a merge, the highest score of the result first */
const mergesFrom = (
  tokens: readonly string[],
  kinds: readonly number[],
  fields: Fields,
): (readonly [string, string])[] => {
  const key = 'tokenizer.ggml.scores'
  const scores = fields.numbers(key)
  if (scores?.length !== tokens.length) fields.fail(key, 'has not one score for each token; download the file again')
  const normal = (i: number): boolean => kinds[i] === KIND.normal || kinds[i] === KIND.user
  const ids = new Map(tokens.flatMap((t, i) => (normal(i) ? [[t, i] as const] : [])))
  const merges: {
    readonly pair: readonly [string, string]
    readonly score: number
    readonly left: number
    readonly right: number
  }[] = []
  for (const [token, i] of ids) {
    if (kinds[i] !== KIND.normal || token.length > LONGEST) continue
    for (let at = 1; at < token.length; at++) {
      const [a, b] = [token.slice(0, at), token.slice(at)]
      const [left, right] = [ids.get(a), ids.get(b)]
      if (left !== undefined && right !== undefined) merges.push({ pair: [a, b], score: scores![i]!, left, right })
    }
  }
  return merges.sort((x, y) => y.score - x.score || x.left - y.left || x.right - y.right).map(({ pair }) => pair)
}
