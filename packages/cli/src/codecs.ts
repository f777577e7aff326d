import { int8, nf4 } from '@weftjs/quant'
import type { Codec } from '@weftjs/spec'
import { Failure, usage } from './fail.ts'

const CODECS: Readonly<Record<string, () => Codec<any>>> = {
  nf4: () => nf4({ double: true }),
  'nf4-plain': () => nf4(),
  int8: () => int8(),
}

/** A storage format by its name in a run file or on the command line; `nf4` quantizes its scales too. */
export const codecOf = (name: string, field: string): Codec<any> => {
  if (Object.hasOwn(CODECS, name)) return CODECS[name]!()
  const message = `${field}: there is no codec '${name}'; there are ${Object.keys(CODECS).join(', ')}`
  throw field.startsWith('--') ? usage(message) : new Failure(message)
}
