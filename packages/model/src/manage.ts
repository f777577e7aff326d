import type { Params, Rng } from '@weftjs/spec'
import { dispose, selectParams } from '@weftjs/tensor'
import { type Tuned, tunedOf } from './attach.ts'
import { type Attachment, type AttachOptions, type Binding, type Bound, bind } from './bind.ts'

export interface AddOptions extends Pick<AttachOptions, 'seen'> {
  /** values of what is there already; those it starts with by default */
  readonly params?: Params
}

const owner = ({ bound }: Binding, tensor: string): string | undefined =>
  bound.find((b) => tensor.startsWith(`${b.prefix}.`) || tensor.startsWith(`${b.name}.shared.`))?.name

const must = (binding: Binding, names: readonly string[]): void => {
  const there = [...new Set(binding.bound.map((b) => b.name))]
  const odd = names.find((n) => !there.includes(n))
  if (odd !== undefined) throw new Error(`there is no adapter '${odd}' here; there are ${there.join(', ') || 'none'}`)
}

/**
 * More adapters on what stands: a new `Tuned` with the old tensors and the new ones; the one given stays as it is.
 * @throws Error where a name is taken at a site, or two adapters cannot share one; nothing is left behind then
 */
export const addAdapters = (
  tuned: Tuned,
  attachments: readonly Attachment[],
  rng: Rng,
  { params = tuned.params, seen }: AddOptions = {},
): Tuned => {
  const more = bind(tuned.network, attachments, rng, seen ? { seen } : {})
  const fresh = { ...more.params, ...more.constants }
  try {
    const taken = Object.keys(fresh).find((n) => n in params || n in tuned.constants)
    const twice = more.bound.find((b) => tuned.bound.some((old) => old.prefix === b.prefix))
    if (taken !== undefined || twice)
      throw new Error(
        `${twice ? `${twice.site.name}: there is an adapter '${twice.name}' already` : `${taken} is there already`}; give the new one a 'name' of its own, or delete the old`,
      )
    return tunedOf({
      ...tuned,
      bound: [...tuned.bound, ...more.bound],
      params: { ...params, ...more.params },
      constants: { ...tuned.constants, ...more.constants },
    })
  } catch (error) {
    const bases = more.bound.flatMap((b) => Object.values(b.base?.parts ?? {}))
    dispose([...Object.values(fresh), ...bases])
    throw error
  }
}

/**
 * Without the adapters of these names: a new `Tuned` with the tensors of the others. Those of the deleted are not
 * disposed, since the one given still has them.
 * @throws Error for a name that is not there
 */
export const deleteAdapters = (tuned: Tuned, names: readonly string[], params: Params = tuned.params): Tuned => {
  must(tuned, names)
  const stays = (n: string): boolean => {
    const name = owner(tuned, n)
    return name === undefined || !names.includes(name)
  }
  return tunedOf({
    ...tuned,
    bound: tuned.bound.filter((b) => !names.includes(b.name)),
    params: selectParams(params, stays),
    constants: selectParams(tuned.constants, stays),
  })
}

/**
 * Adapters under other names, `{ old: 'new' }`: a new `Tuned` with the same tensors.
 * @throws Error for a name that is not there, or one that would meet another at a site
 */
export const renameAdapters = (
  tuned: Tuned,
  names: Readonly<Record<string, string>>,
  params: Params = tuned.params,
): Tuned => {
  must(tuned, Object.keys(names))
  const called = (name: string): string => (Object.hasOwn(names, name) ? names[name]! : name)
  const bound = tuned.bound.map((b): Bound => {
    const name = called(b.name)
    if (name === 'whole') throw new Error(`the name 'whole' stands for what trains whole; choose another`)
    return { ...b, name, prefix: `${b.site.name}.${name}` }
  })
  const seen = new Set<string>()
  for (const { site, name, prefix } of bound) {
    if (seen.has(prefix))
      throw new Error(`${site.name}: two adapters would be named '${name}' here; choose another name`)
    seen.add(prefix)
  }
  const rename = (values: Params): Params => {
    const renamed = Object.entries(values).map(([n, t]) => {
      const at = tuned.bound.findIndex((b) => n.startsWith(`${b.prefix}.`))
      if (at >= 0) return [`${bound[at]!.prefix}${n.slice(tuned.bound[at]!.prefix.length)}`, t] as const
      const name = owner(tuned, n)
      return [name === undefined ? n : `${called(name)}${n.slice(name.length)}`, t] as const
    })
    const all = Object.fromEntries(renamed)
    if (Object.keys(all).length < renamed.length)
      throw new Error('two adapters with tensors common to their sites would have one name; choose another')
    return all
  }
  return tunedOf({ ...tuned, bound, params: rename(params), constants: rename(tuned.constants) })
}
