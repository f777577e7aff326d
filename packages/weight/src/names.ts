import picomatch from 'picomatch'

const path = (name: string): string => name.replaceAll('.', '/')

/** Does a dotted name match one of the globs? `*` stays within a dot, `**` crosses them: `blocks.*.attn.{q,v}`. */
export const matchNames = (globs: string | readonly string[]): ((name: string) => boolean) => {
  const tests = [globs].flat().map((glob) => picomatch(path(glob)))
  return (name) => tests.some((test) => test(path(name)))
}
