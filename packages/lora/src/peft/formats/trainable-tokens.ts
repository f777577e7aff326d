import type { Site } from '@weftjs/spec'
import { type TrainableTokensOptions, trainableTokens } from '../../trainable-tokens.ts'
import type { PeftFormat } from '../format.ts'
import { PEFT_PREFIX } from '../names.ts'
import { peftTargets } from '../target.ts'

const DELTA = 'trainable_tokens_delta'
const isTokens = (v: unknown): boolean => Array.isArray(v) && v.every((t) => Number.isInteger(t) && t >= 0)

/** the embedding, or what target_modules says; and a head that shares the matrix, which PEFT adapts with it */
const targets = (config: Readonly<Record<string, unknown>>, sites: readonly Site[]): readonly Site[] => {
  const tables = sites.filter((s) => s.kind === 'embed' || s.kind === 'head')
  const found = config['target_modules']
    ? peftTargets(config as never, tables)
    : tables.filter((s) => s.kind === 'embed')
  const shares = (s: Site): boolean => found.some((f) => f.kind === 'embed' && f.weight === s.weight)
  return tables.filter((s) => found.includes(s) || shares(s))
}

/** TRAINABLE_TOKENS  —  huggingface/peft, tuners/trainable_tokens: the rows themselves, whatever the name says */
export const format: PeftFormat = {
  type: 'TRAINABLE_TOKENS',
  method: 'trainable-tokens',
  fields: { tokens: { key: 'token_indices', test: isTokens, wanted: 'a list of token ids' } },
  fixed: { init_weights: true },
  targets,
  bare: true,
  make: (options) => trainableTokens(options as TrainableTokensOptions),
  config: (held) => ({ target_modules: held.filter((h) => h.site.kind === 'embed').map((h) => h.site.module!) }),
  parts: { rows: DELTA },
  beside: {
    key: 'trainable_token_indices',
    types: ['LORA'],
    parts: { rows: `token_adapter.${DELTA}` },
    read: (value, sites) => {
      const tables = sites.filter((s) => s.kind === 'embed')
      const [named, ...more] = Array.isArray(value) ? [['', value] as const] : Object.entries(value as object)
      const embed = tables.find((s) => s.module?.endsWith(named?.[0] ?? ''))
      if (!named || more.length || !embed || !isTokens(named[1]))
        throw new Error(
          `adapter_config.json: trainable_token_indices must be a list of token ids, or one under the name of the embedding, found ${JSON.stringify(value)}`,
        )
      return { options: { tokens: named[1] }, targets: targets({ target_modules: [embed.module!] }, sites) }
    },
    write: ({ options }) => (options as TrainableTokensOptions).tokens,
  },
  shared: (key, sites) => {
    const embed = sites.find((s) => s.kind === 'embed') ?? sites[0]!
    return key === 'rows' ? `${PEFT_PREFIX}${embed.module}.${DELTA}` : undefined
  },
  copies: ({ kind }): Record<string, string> => (kind === 'head' ? { rows: DELTA } : {}),
}
