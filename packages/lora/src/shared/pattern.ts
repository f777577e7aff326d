/** A regular expression of Python's `re` as JavaScript's. @throws Error with the place where it stands */
export const pythonRegExp = (source: string, wrap: (source: string) => string, place: string): RegExp => {
  const [, flags = '', rest = source] = /^\(\?([aimsux]+)\)(.*)$/s.exec(source) ?? []
  const odd = [...flags].find((f) => !'aims'.includes(f))
  const translated = rest
    .replaceAll('(?P<', '(?<')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replace(/((?:^|[^\\])(?:\\\\)*)\\A/g, '$1^')
    .replace(/((?:^|[^\\])(?:\\\\)*)\\Z/g, '$1$')
  try {
    if (odd) throw new Error(`the flag '${odd}' has no counterpart in JavaScript`)
    return new RegExp(wrap(translated), flags.replaceAll('a', ''))
  } catch (error) {
    throw new Error(
      `${place}: ${JSON.stringify(source)} is not a regular expression (${(error as Error).message}); mend it or escape what is meant literally`,
    )
  }
}

/** PEFT's rule for rank_pattern and alpha_pattern: the first pattern that matches from a dot, or the start, to the end */
export const patterned = <T>(
  patterns: Readonly<Record<string, T>>,
  place: string,
): ((...names: readonly (string | undefined)[]) => T | undefined) => {
  const tests = Object.entries(patterns).map(
    // the groups are numbered as in PEFT's own expression
    ([p, value]) => [pythonRegExp(p, (s) => `^(.*\\.)?(${s})$`, `${place}[${JSON.stringify(p)}]`), value] as const,
  )
  return (...names) => tests.find(([test]) => names.some((n) => n !== undefined && test.test(n)))?.[1]
}

/** a pattern that matches this name and no other */
export const exactly = (name: string): string => `^${name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}`
