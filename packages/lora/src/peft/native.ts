import type { Adapter, Config } from '@weftjs/spec'
import type { PeftFormat } from './format.ts'

/** Makes an adapter of a method by its name, which stands in the config of a method that PEFT does not have. */
export type Make = (method: string, options: Config) => Adapter

const PREFIX = 'WEFT_'

/** the method that a config of ours names; undefined for PEFT's own types */
export const nativeMethod = (config: Readonly<Record<string, unknown>>): string | undefined => {
  const type = config['peft_type']
  if (typeof type !== 'string' || !type.startsWith(PREFIX)) return undefined
  const method = config['weft_method']
  return typeof method === 'string' ? method : type.slice(PREFIX.length).toLowerCase().replaceAll('_', '-')
}

/**
 * The layout of a method that PEFT does not have: PEFT's folder and PEFT's way of naming tensors, with the method's own
 * name, options and tensor names. PEFT refuses it as an unknown type.
 */
export const native = (method: string, make?: Make): PeftFormat => {
  const own = method.replaceAll('-', '_')
  return {
    type: `${PREFIX}${method.toUpperCase().replaceAll('-', '_')}`,
    method,
    fields: {},
    make: (options) => {
      if (make) return make(method, options)
      throw new Error(
        `adapter_config.json: this adapter is of the method '${method}', which PEFT does not have; pass \`make\` to say how '${method}' is made`,
      )
    },
    options: (config) => (config['weft_options'] ?? {}) as Config,
    config: (held) => {
      const [first] = held
      const odd = held.find((h) => JSON.stringify(h.adapter.options) !== JSON.stringify(first!.adapter.options))
      if (odd)
        throw new Error(
          `${odd.site.name}: '${method}' has other options here than at ${first!.site.name}; save the adapters apart`,
        )
      const { adapter } = first!
      const states = Object.fromEntries(held.map((h) => [h.site.name, h.state]))
      return {
        weft_method: method,
        weft_options: adapter.settled?.(states) ?? adapter.options ?? {},
        weft_sites: held.map((h) => h.site.name),
        target_modules: [],
      }
    },
    check: ({ weft_sites: sites, weft_options: options }) => {
      if (!Array.isArray(sites) || !sites.length || sites.some((s) => typeof s !== 'string'))
        throw new Error('adapter_config.json: weft_sites must be a list of names of sites')
      if (typeof options !== 'object' || options === null || Array.isArray(options))
        throw new Error('adapter_config.json: weft_options must be an object')
    },
    targets: ({ weft_sites: names }, sites) =>
      (names as readonly string[]).map((name) => {
        const found = sites.find((s) => s.name === name)
        if (found) return found
        throw new Error(
          `adapter_config.json: weft_sites names ${name}, and this model has no such place; load its own base`,
        )
      }),
    parts: ({ state }) => Object.fromEntries(Object.keys(state).map((key) => [key, `${own}_${key}`])),
    shared: (key) => `base_model.${own}_${key}`,
  }
}
