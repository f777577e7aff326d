/**
 * A parameter of a mergekit recipe: one value, a list (a gradient over the layers), or a list of `{ filter, value }`
 * whose first entry with no filter, `*`, or a piece of the tensor's name decides.
 */
export type Scalar = number | boolean
export type Plain = Scalar | readonly Scalar[]
export type Value =
  | { readonly plain: Plain }
  | { readonly filters: readonly { readonly filter?: string; readonly value: Plain }[] }
export type Kind = 'number' | 'boolean'

/** Where a tensor stands. */
export interface Place {
  readonly name: string
  /** 0 at the first layer, 1 at the last; 0 for tensors outside the layers */
  readonly depth: number
}

export const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isScalar = (kind: Kind, value: unknown): value is Scalar =>
  kind === 'boolean' ? typeof value === 'boolean' : typeof value === 'number' && Number.isFinite(value)

/** @throws Error that starts with the path of the field */
export const parseValue = (value: unknown, path: string, kind: Kind): Value => {
  if (isScalar(kind, value)) return { plain: value }
  if (Array.isArray(value) && value.length && value.every((v) => isScalar(kind, v))) return { plain: value }
  if (Array.isArray(value) && value.length && value.every(isRecord))
    return {
      filters: value.map((entry, i) => {
        const at = `${path}.${i}`
        const odd = Object.keys(entry).find((k) => k !== 'filter' && k !== 'value')
        if (odd) throw new Error(`${at}.${odd}: is not known here; an entry has filter and value`)
        const { filter } = entry
        if (filter !== undefined && filter !== null && typeof filter !== 'string')
          throw new Error(`${at}.filter: must be a string, found ${show(filter)}`)
        const parsed = parseValue(entry['value'], `${at}.value`, kind)
        if (!('plain' in parsed))
          throw new Error(`${at}.value: must be a ${kind} or a list of them; filters do not nest`)
        return { ...(typeof filter === 'string' && { filter }), value: parsed.plain }
      }),
    }
  const one = kind === 'number' ? 'number' : 'true or false'
  throw new Error(
    `${path}: must be ${kind === 'number' ? 'a number' : one}, a list of these by layer, or a list of {filter, value}; found ${show(value)}`,
  )
}

const along = (plain: Plain, depth: number): Scalar => {
  if (typeof plain !== 'object') return plain
  const at = depth * (plain.length - 1)
  const i = Math.min(Math.floor(at), plain.length - 1)
  const [a, b = a] = [plain[i]!, plain[i + 1]]
  return typeof a === 'number' && typeof b === 'number' ? a + (b - a) * (at - i) : a
}

/** the value at one tensor; undefined where no filter takes it, and the next level is asked */
export const valueAt = (value: Value | undefined, { name, depth }: Place): Scalar | undefined => {
  if (!value) return undefined
  if ('plain' in value) return along(value.plain, depth)
  const entry = value.filters.find(({ filter }) => filter === undefined || filter === '*' || name.includes(filter))
  return entry && along(entry.value, depth)
}
