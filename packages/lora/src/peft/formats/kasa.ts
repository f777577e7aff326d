import { type KasaOptions, kasa } from '../../kasa.ts'
import type { Field, PeftFormat } from '../format.ts'
import { mustBeAgain } from '../mutated.ts'
import { loraFields, loraInert, loraParts } from './lora.ts'

const isNumber = (v: unknown): boolean => typeof v === 'number' && v >= 0
/** one of the two numbers in `kasa_config` */
const part = (key: 'beta' | 'gamma'): Field => ({
  key: 'kasa_config',
  test: (v) => typeof v === 'object' && v !== null && ['beta', 'gamma'].every((k) => isNumber((v as never)[k] ?? 0)),
  wanted: 'an object with numbers beta and gamma of at least 0',
  read: (v) => (v as KasaOptions)[key],
  write: (_, { beta = 1e-4, gamma = 1e-3 }) => ({ beta, gamma }),
})
const { rank, alpha, rslora, dropout, init } = loraFields

/** LORA with `kasa_config`; whoever reads the file takes the same components from the base again */
export const format: PeftFormat = {
  type: 'LORA',
  method: 'kasa',
  when: (config) => typeof config['kasa_config'] === 'object' && config['kasa_config'] !== null,
  fields: {
    rank,
    alpha,
    rslora,
    dropout,
    init: { ...init, write: () => true },
    beta: part('beta'),
    gamma: part('gamma'),
  },
  inert: Object.fromEntries(
    Object.entries({ ...loraInert, lora_bias: [false] }).filter(([key]) => key !== 'kasa_config'),
  ),
  make: (options) => kasa(options as KasaOptions),
  config: (held) => {
    mustBeAgain(held)
    return {}
  },
  parts: (held) => ({ ...loraParts(held), d: 'lora_diag' }),
}
