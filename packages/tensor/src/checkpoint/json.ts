const QUOTE = 34
const BACKSLASH = 92
const COLON = 58
const isSpace = (c: number): boolean => c === 32 || c === 9 || c === 10 || c === 13

export interface JsonLimits {
  /** nesting */
  readonly depth?: number
  /** keys in all */
  readonly keys?: number
}

/**
 * JSON.parse that refuses what it would hide: a key given twice in one object, and nesting or numbers of keys that no
 * header needs. Objects keep a key `__proto__` as a plain key.
 * @throws Error in plain words
 */
export const parseJson = (text: string, { depth = 64, keys = 4_000_000 }: JsonLimits = {}): unknown => {
  const open: (Set<string> | undefined)[] = [] // undefined: an array
  let seen = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 123 || c === 91) {
      if (open.push(c === 123 ? new Set() : undefined) > depth) throw new Error(`nested deeper than ${depth}`)
    } else if (c === 125 || c === 93) open.pop()
    else if (c === QUOTE) {
      let end = i + 1
      while (end < text.length && text.charCodeAt(end) !== QUOTE) end += text.charCodeAt(end) === BACKSLASH ? 2 : 1
      let next = end + 1
      while (isSpace(text.charCodeAt(next))) next++
      const known = open.at(-1)
      if (known && text.charCodeAt(next) === COLON) {
        const key = JSON.parse(text.slice(i, end + 1)) as string
        if (known.has(key)) throw new DuplicateKey(key)
        known.add(key)
        if (++seen > keys) throw new Error(`more than ${keys} keys`)
      }
      i = end
    }
  }
  return JSON.parse(text)
}

export class DuplicateKey extends Error {
  override readonly name = 'DuplicateKey'
  readonly key: string
  constructor(key: string) {
    super(`the key ${JSON.stringify(key.slice(0, 120))} occurs twice`)
    this.key = key
  }
}

/** an object that is neither null nor an array */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
