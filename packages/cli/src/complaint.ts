import type { z } from 'zod'
import { nearest } from './nearest.ts'

type Issue = z.core.$ZodIssue
const KINDS: Readonly<Record<string, string>> = {
  number: 'a number',
  int: 'a whole number',
  string: 'text',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'a group of fields',
  record: 'a group of fields',
}

const shown = (value: unknown): string => {
  if (value === undefined || value === null) return 'nothing'
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value)
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
const at = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (v, key) => (typeof v === 'object' && v !== null ? (v as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  )
const place = (path: readonly PropertyKey[]): string => path.map(String).join('.') || 'the file'

/** the fields that the schema has at a path, for suggestions */
const fieldsAt = (schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] => {
  const def = (schema as z.ZodType).def as {
    type: string
    innerType?: z.ZodType
    shape?: Record<string, z.ZodType>
    element?: z.ZodType
    options?: z.ZodType[]
  }
  if (def.innerType) return fieldsAt(def.innerType, path)
  if (def.options) return def.options.flatMap((o) => fieldsAt(o, path))
  const [key, ...rest] = path
  if (def.element) return key === undefined ? [] : fieldsAt(def.element, rest)
  if (!def.shape) return []
  if (key === undefined) return Object.keys(def.shape)
  const inner = def.shape[String(key)]
  return inner ? fieldsAt(inner, rest) : []
}

/** how far a branch of a union is from what was written: fields it does not know count most */
const remoteness = (issues: readonly Issue[]): number =>
  issues.reduce(
    (n, i) =>
      n + (i.code === 'unrecognized_keys' ? 2 * i.keys.length : i.path.length || i.code !== 'invalid_type' ? 1 : 9),
    0,
  )

const limit = (issue: Issue & { code: 'too_small' | 'too_big' }): string => {
  const small = issue.code === 'too_small'
  const n = small ? issue.minimum : issue.maximum
  if (issue.origin === 'array')
    return `must have ${small ? 'at least' : 'at most'} ${n} ${n === 1 ? 'entry' : 'entries'}`
  if (issue.origin === 'string') return 'must not be empty'
  if (!issue.inclusive) return `must be ${small ? 'more' : 'less'} than ${n}`
  return `must be ${small ? 'at least' : 'at most'} ${n}`
}

/** One issue as lines such as `train.steps: must be a number, found "many"`. */
export const complaints = (issue: Issue, root: unknown, schema: z.core.$ZodType): string[] => {
  const found = shown(at(root, issue.path))
  const here = place(issue.path)
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => {
      const names = fieldsAt(schema, issue.path)
      if (names.includes(key)) {
        const others = Object.keys(Object(at(root, issue.path))).filter((k) => !issue.keys.includes(k))
        return `${place([...issue.path, key])}: does not go with ${others.join(' and ') || 'the other fields'}; remove one`
      }
      const near = nearest(key, names)
      return `${place([...issue.path, key])}: there is no such field; ${near ? `did you mean ${near}?` : `there are ${names.join(', ')}`}`
    })
  if (issue.code === 'invalid_union') {
    const branches = (issue.errors as Issue[][]).filter((b) => b.length)
    const [best] = [...branches].sort((a, b) => remoteness(a) - remoteness(b))
    const flat = branches.flatMap((b) =>
      b.length === 1 && b[0]!.code === 'invalid_type' && !b[0]!.path.length ? [b[0]!.expected] : [],
    )
    if (!best || flat.length === branches.length) {
      const kinds = [...new Set(flat.map((kind) => KINDS[kind] ?? kind))].join(' or ')
      return [
        at(root, issue.path) === undefined
          ? `${here}: is missing; it must be ${kinds}`
          : `${here}: must be ${kinds}, found ${found}`,
      ]
    }
    const unknown = best.filter((i) => i.code === 'unrecognized_keys')
    return (unknown.length ? unknown : best).flatMap((i) =>
      complaints({ ...i, path: [...issue.path, ...i.path] } as Issue, root, schema),
    )
  }
  if (issue.code === 'invalid_type' && !issue.path.length)
    return [`${here}: must be a group of fields, found ${found}; there are ${fieldsAt(schema, []).join(', ')}`]
  if (issue.code === 'invalid_type')
    return at(root, issue.path) === undefined
      ? [`${here}: is missing; it must be ${KINDS[issue.expected] ?? issue.expected}`]
      : [`${here}: must be ${KINDS[issue.expected] ?? issue.expected}, found ${found}`]
  if (issue.code === 'invalid_value')
    return [
      at(root, issue.path) === undefined
        ? `${here}: is missing; it must be one of ${issue.values.join(', ')}`
        : `${here}: must be one of ${issue.values.join(', ')}, found ${found}`,
    ]
  if (issue.code === 'too_small' || issue.code === 'too_big') return [`${here}: ${limit(issue)}, found ${found}`]
  return [`${here}: ${issue.message}, found ${found}`]
}
