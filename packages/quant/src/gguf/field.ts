/** names of the types of values in a GGUF file's metadata, by their numbers */
export const scalarTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const
export type GgufScalarType = Exclude<(typeof scalarTypes)[number], 'array'>
/** 64-bit integers that float64 does not hold exactly are bigint */
export type GgufScalar = number | bigint | boolean | string

/** A value of the metadata with the type it has, or is to have, in the file. */
export type GgufField =
  | { readonly type: GgufScalarType; readonly value: GgufScalar }
  | { readonly type: 'array'; readonly of: GgufScalarType; readonly value: readonly GgufScalar[] }
  | { readonly type: 'array'; readonly of: 'array'; readonly value: readonly GgufField[] }
/** in the order of the file */
export type GgufMetadata = ReadonlyMap<string, GgufField>

/** bytes of one value; strings and arrays begin with their length */
export const bytesOfScalar: Readonly<Record<GgufScalarType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  u64: 8,
  i64: 8,
  f64: 8,
}

/** What a file says under names, asked for with the kind that is expected; errors name the file and the key. */
export interface Fields {
  has(key: string): boolean
  number(key: string): number | undefined
  text(key: string): string | undefined
  flag(key: string): boolean | undefined
  /** the one number, or the list of one per layer where all its numbers are the same */
  uniform(key: string): number | undefined
  numbers(key: string): readonly number[] | undefined
  texts(key: string): readonly string[] | undefined
  /** a list of booleans; undefined where there is something else, or nothing */
  flags(key: string): readonly boolean[] | undefined
  fail(key: string, found: string): never
}

export const fieldsOf = (metadata: GgufMetadata, fail: (found: string) => never): Fields => {
  const wrong = (key: string, found: string): never => fail(`metadata ${key}: ${found}`)
  const scalar = (key: string, kind: 'number' | 'string' | 'boolean'): GgufScalar | undefined => {
    const field = metadata.get(key)
    if (!field) return undefined
    if (field.type === 'array' || typeof field.value !== kind)
      return wrong(key, `is ${describe(field)}, where a ${kind} is expected`)
    return field.value
  }
  const list = (key: string, kind: 'number' | 'string'): readonly GgufScalar[] | undefined => {
    const field = metadata.get(key)
    if (!field) return undefined
    if (field.type !== 'array' || field.of === 'array' || !field.value.every((v) => typeof v === kind))
      return wrong(key, `is ${describe(field)}, where a list of ${kind}s is expected`)
    return field.value
  }
  const number = (key: string): number | undefined => scalar(key, 'number') as number | undefined
  const numbers = (key: string): readonly number[] | undefined => list(key, 'number') as readonly number[] | undefined
  return {
    has: (key) => metadata.has(key),
    number,
    text: (key) => scalar(key, 'string') as string | undefined,
    flag: (key) => scalar(key, 'boolean') as boolean | undefined,
    uniform: (key) => {
      if (metadata.get(key)?.type !== 'array') return number(key)
      const found = numbers(key)!
      if (!found.length || found.some((n) => n !== found[0]))
        return wrong(key, 'differs between the layers, and this network has layers of one kind; use another model')
      return found[0]
    },
    numbers,
    texts: (key) => list(key, 'string') as readonly string[] | undefined,
    flags: (key) => {
      const field = metadata.get(key)
      return field?.type === 'array' && field.of === 'bool' ? (field.value as readonly boolean[]) : undefined
    },
    fail: wrong,
  }
}

const describe = (field: GgufField): string =>
  field.type === 'array' ? `a list of ${field.value.length} of type ${field.of}` : `of type ${field.type}`
