import type { Codec, Network, Seen, Statistic } from '@weftjs/spec'
import type { See } from '../quantize.ts'
import type { Weighed } from './error.ts'

/** What is known of a matrix. */
export interface Sight {
  /** for the codecs */
  readonly known: Seen | undefined
  /** for the errors */
  readonly weighed: Weighed | undefined
}
export interface SightOptions {
  readonly seen: Readonly<Record<string, Seen>>
  readonly see: See | undefined
  readonly by: 'moment' | 'fisher' | undefined
}

/** statistics of one pass where it gathered them, and else of another */
const joined = (first: Seen, gathered: ReadonlySet<Statistic>, second: Seen): Seen => ({
  ...first,
  get: (s) => (gathered.has(s) ? first : second).get(s),
})

/**
 * What is known of the matrices of a stage: from `seen`, and from `see` where that is there and somebody asks.
 * @throws Error for a matrix that a codec has to look at, and that no pass has reached
 */
export const seenIn = async (
  network: Network<any>,
  pairs: readonly (readonly [name: string, able: readonly Codec<any>[]])[],
  { seen, see, by }: SightOptions,
): Promise<(name: string) => Sight> => {
  const names = pairs.map(([name]) => name)
  const looking = pairs.flatMap(([, able]) => able).filter((c) => c.calibrates?.length)
  const asked = new Set(looking.flatMap((c) => c.calibrates!))
  if (by) asked.add('moment')
  if (by === 'fisher' && names.some((n) => !seen[n])) asked.add('fisher')
  const codec = looking[0] ?? pairs[0]![1][0]!
  const own = see && asked.size ? await see(network, names, codec, [...asked]) : {}
  return (name) => {
    const [first, second] = [own[name], seen[name]]
    if (see && asked.size && !first)
      throw new Error(`${name}: the calibration pass did not reach it; give it texts that do, or "skip" it`)
    const blind = pairs.find(([n]) => n === name)![1].find((c) => c.calibrates?.length)
    if (blind && !first && !second)
      throw new Error(
        `${name}: ${blind.name} looks at what the layer reads (${blind.calibrates!.join(', ')}); give "see", a calibration pass`,
      )
    const known = first && second ? joined(first, asked, second) : (first ?? second)
    const weighs: Weighed['by'] = by !== 'fisher' ? ['moment'] : first ? ['fisher', 'moment'] : ['fisher']
    return { known, weighed: known && (by || second) ? { seen: known, by: weighs } : undefined }
  }
}
