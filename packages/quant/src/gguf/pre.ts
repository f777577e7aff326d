import type { Config } from '@weftjs/spec'

/** contractions of English in any case, without the inline flag that not every engine has */
const ENDINGS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
const REST = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const words = (digits: string): string => `${ENDINGS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}|${REST}`
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'
const cased = (digits: string, ending: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${ending}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${ending}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`

const GPT2 = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
const LLAMA3 = words('\\p{N}{1,3}')
const QWEN2 = words('\\p{N}')
const QWEN35 = `${ENDINGS}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
const TEKKEN = cased('\\p{N}', '')
const GPT4O = cased('\\p{N}{1,3}', `${ENDINGS}?`)

/** How a text is cut before its bytes are merged, under the name that llama.cpp has for it. */
export interface Pre {
  /** one after the other, each cutting what the one before left whole */
  readonly regexes: readonly string[]
  /** a piece that is a token is not merged again; and does it put BOS before a text where the file does not say? */
  readonly ignoreMerges?: boolean
  readonly bos?: boolean
}

const gpt2: Pre = { regexes: [GPT2] }
const digits: Pre = { regexes: ['\\p{N}', GPT2] }
const llama3: Pre = { regexes: [LLAMA3], ignoreMerges: true, bos: true }
const qwen2: Pre = { regexes: [QWEN2] }

const named = (pre: Pre, ...names: readonly string[]): Record<string, Pre> =>
  Object.fromEntries(names.map((n) => [n, pre]))

/** those of llama.cpp that models of the families read here have; the first of a kind is the one that is written */
export const pres: Readonly<Record<string, Pre>> = {
  ...named(
    gpt2,
    'gpt-2',
    'phi-2',
    'mpt',
    'olmo',
    'jina-es',
    'jina-de',
    'gigachat',
    'trillion',
    'granite-docling',
    'roberta-bpe',
    'exaone4',
  ),
  ...named(digits, 'smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'),
  ...named(llama3, 'llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'falcon-h1', 'pixtral', 'midm-2.0', 'lfm2'),
  ...named({ regexes: [LLAMA3] }, 'dbrx', 'smaug-bpe', 'chatglm-bpe', 'glm4'),
  ...named(qwen2, 'qwen2', 'deepseek-r1-qwen', 'stablelm2', 'hunyuan', 'megrez'),
  ...named({ regexes: [QWEN35] }, 'qwen35'),
  ...named({ regexes: [TEKKEN], ignoreMerges: true, bos: true }, 'tekken'),
  ...named({ regexes: [GPT4O] }, 'gpt-4o', 'llama4'),
  ...named({ regexes: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', GPT2, '[0-9][0-9][0-9]'] }, 'falcon'),
  ...named({ regexes: ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]'] }, 'default'),
}

/** spellings of one regular expression that tokenizer.json files have */
const SPELLINGS: readonly (readonly [string, string])[] = [
  ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", ENDINGS],
  ["'s|'t|'re|'ve|'m|'ll|'d| ?", "'(?:[sdmt]|ll|ve|re)| ?"],
]
const plain = (regex: string): string => SPELLINGS.reduce((r, [from, to]) => r.split(from).join(to), regex)

type Part = Readonly<Record<string, unknown>>
const record = (value: unknown): Part | undefined =>
  typeof value === 'object' && value !== null ? (value as Part) : undefined

/** the regular expressions of a tokenizer.json's pre-tokenizer; undefined where it does something else besides */
const regexesOf = (part: Part | undefined): readonly string[] | undefined => {
  if (!part) return []
  if (part['type'] === 'Sequence') {
    const all = ((part['pretokenizers'] ?? []) as readonly unknown[]).map((p) => regexesOf(record(p)))
    return all.every((a) => a !== undefined) ? all.flat() : undefined
  }
  if (part['type'] === 'ByteLevel')
    return part['add_prefix_space'] === true ? undefined : part['use_regex'] === false ? [] : [GPT2]
  if (part['type'] === 'Digits') return [part['individual_digits'] === true ? '\\p{N}' : '\\p{N}+']
  const regex = record(part['pattern'])?.['Regex']
  // llama.cpp keeps matches and what is between them apart
  if (part['type'] === 'Split' && typeof regex === 'string' && part['behavior'] === 'Isolated' && !part['invert'])
    return [plain(regex)]
  return undefined
}

/**
 * llama.cpp's name for what a byte-level tokenizer.json does. A finer cut than GPT-2's counts as GPT-2's where no token
 * reaches over its places (digits one by one, and no token of two digits), since merges decide then.
 */
export const preOf = (json: Config, tokens: readonly string[]): string | undefined => {
  const found = regexesOf(record(json['pre_tokenizer']))
  if (!found) return undefined
  const ignores = record(json['model'])?.['ignore_merges'] === true
  const of = (regexes: readonly string[]): string | undefined =>
    Object.entries(pres).find(
      ([, p]) => p.regexes.join('\n') === regexes.join('\n') && (p.ignoreMerges ?? false) === ignores,
    )?.[0]
  const exact = of(found)
  if (exact) return exact
  const single = GPT2.replace('\\p{N}+', '\\p{N}')
  return found.length === 1 && found[0] === single && !tokens.some((t) => /\p{N}{2}/u.test(t)) ? of([GPT2]) : undefined
}

/** the pre-tokenizer of tokenizer.json that does the same */
export const preTokenizer = ({ regexes }: Pre): Config => ({
  type: 'Sequence',
  pretokenizers: [
    ...regexes.map((regex) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false })),
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
})
