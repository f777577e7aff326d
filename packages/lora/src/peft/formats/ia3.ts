import type { Site } from '@weftjs/spec'
import { reshape } from '@weftjs/tensor'
import { type Ia3Options, ia3, onInputs } from '../../ia3.ts'
import { pythonRegExp } from '../../shared/pattern.ts'
import type { PeftConfig } from '../config.ts'
import { type Held, type PeftFormat, shaped } from '../format.ts'
import { fanInFanOut } from './lora.ts'

const byInputs = ({ adapter, site }: Held): boolean => onInputs(adapter.options as Ia3Options)(site)

/** a module is feedforward by the whole of its name, or by an end of it without regard to dots */
const feedforward = ({ feedforward_modules: found }: PeftConfig, targets: readonly Site[]): string[] => {
  const test =
    typeof found === 'string'
      ? pythonRegExp(found, (s) => `^(?:${s})$`, 'adapter_config.json: feedforward_modules')
      : { test: (name: string) => ((found ?? []) as readonly string[]).some((end) => name.endsWith(end)) }
  return targets.filter((s) => test.test(s.module!)).map((s) => s.name)
}

/** IA3  —  huggingface/peft, tuners/ia3, without convolutions */
export const format: PeftFormat = {
  type: 'IA3',
  method: 'ia3',
  fields: {},
  fixed: { init_ia3_weights: true },
  check: ({ feedforward_modules: found }) => {
    const fine = found === undefined || found === null || typeof found === 'string'
    if (!fine && !(Array.isArray(found) && found.every((m) => typeof m === 'string')))
      throw new Error('adapter_config.json: feedforward_modules must be a list of module names or a regular expression')
  },
  options: (config, targets) => ({ feedforward: feedforward(config, targets) }),
  make: (options) => ia3(options as Ia3Options),
  config: (held) => ({
    fan_in_fan_out: fanInFanOut(held.map((h) => h.site)),
    // whole names in both, for PEFT wants the one to be a part of the other
    target_modules: held.map((h) => h.site.module!).sort(),
    feedforward_modules: held.filter(byInputs).map((h) => h.site.module!),
  }),
  parts: (held) => ({
    l: { name: 'ia3_l', layout: shaped(reshape, ([n]) => (byInputs(held) ? [1, n!] : [n!, 1])) },
  }),
}
