import { calibrate, disposeSeen, divergenceFrom, matcher, type Sight, type TransformerConfig } from '@weftjs/model'
import { mixed, quantize, type Sensitivity, sensitivity } from '@weftjs/quant'
import type { Batch, Codec, Config, Network } from '@weftjs/spec'
import { type CodecSettings, codecOf, refuser } from './codecs.ts'
import { methods } from './methods.generated.ts'
import { onProgress, type PackOptions, type Plan, sightOf } from './plan.ts'
import { counted, status, statusDone, warn } from './terminal.ts'

/** what `mixed` chooses among where nothing else is said: about a bit apart, groups of 32 for sides that 64 does not divide */
const CANDIDATES: readonly CodecSettings[] = [
  ...[64, 32].flatMap((group) => ['int2', 'int3'].map((name) => ({ name, group }))),
  ...['Q4_0', 'Q5_0', 'Q8_0'].map((type) => ({ name: 'gguf', type })),
]
/** what `mixed` weighs a format of a matrix by */
const MEASURES = ['fisher', 'kl', 'error'] as const
type By = (typeof MEASURES)[number]
/** rows that a pass for each matrix and format reads */
const FEW = 4

/** a batch of each row, so that the squares of as many gradients are seen */
const rowsOf = (batches: readonly Batch[]): Batch[] =>
  batches.flatMap((b) => {
    const [rows, length] = b.shape
    return Array.from({ length: rows }, (_, i): Batch => {
      const row = (all: Int32Array): Int32Array => all.subarray(i * length, (i + 1) * length)
      const { ids, targets, positions, segments } = b
      return {
        ...{ shape: [1, length], ids: row(ids), targets: row(targets) },
        ...{ positions: row(positions), segments: row(segments) },
      }
    })
  })

/** what each matrix loses in each of the formats */
const lossesOf = async (
  network: Network<TransformerConfig>,
  candidates: readonly Codec<any>[],
  by: By,
  { at, batches, see }: PackOptions & { see: Sight | undefined },
): Promise<readonly Sensitivity[]> => {
  const options = {
    ...(at && { at }),
    ...(see && { see }),
    onProgress: ({ name, pairs, of }: { name: string; pairs: number; of: number }): void =>
      status(`${counted(pairs, of)}  measuring ${name}`, pairs === of),
  }
  if (by === 'error') {
    // alike whatever the scale of a matrix, and whether it stands alone or is stacked with others
    const shares = await sensitivity(network, candidates, { ...options, relative: true })
    return shares.map((s) => ({ ...s, loss: s.loss * s.weights }))
  }
  const rows = rowsOf(await batches!())
  if (by === 'kl') {
    const measure = divergenceFrom(network, rows.slice(0, FEW))
    try {
      return await sensitivity(network, candidates, { ...options, measure })
    } finally {
      measure.dispose()
    }
  }
  const wanted = matcher(at ?? 'blocks.**')
  const seen = await calibrate(network, rows, {
    statistics: ['fisher'],
    at: (site) => site.weight !== undefined && site.kind !== 'embed' && wanted(site),
    onProgress: ({ batches: done }) => status(`${counted(done, rows.length)}  gradients`, done === rows.length),
  })
  try {
    return await sensitivity(network, candidates, { ...options, seen, by: 'fisher' })
  } finally {
    disposeSeen(seen)
  }
}

const byNeed = (bits: number, candidates: readonly Codec<any>[], asked: By | undefined): Plan => {
  const looking = candidates.some((c) => c.calibrates?.length)
  return {
    name: 'mixed',
    looks: looking || (asked !== undefined && asked !== 'error'),
    run: async (network, options) => {
      const by = asked ?? (options.batches ? 'fisher' : 'error')
      if (asked === undefined && by === 'error')
        warn(
          'mixed: without texts it goes by the errors of the matrices alone, which say little of where the network minds them; --calibrate FILE shows it what the model reads',
        )
      const see = looking ? await sightOf(options) : undefined
      try {
        const choice = mixed({ measured: await lossesOf(network, candidates, by, { ...options, see }), bits })
        statusDone()
        const counts = new Map<string, number>()
        for (const { codec } of choice.table) counts.set(titleOf(codec), (counts.get(titleOf(codec)) ?? 0) + 1)
        const found = [...counts].map(([name, n]) => `${n} in ${name}`)
        warn(`${choice.bits.toFixed(3)} bits, matrices: ${found.join(', ')}`)
        const { at, consume } = options
        // what comes later sees what comes before as it is packed by then
        return await quantize(network, choice, { consume, ...(at && { at }), ...(see && { see }), onProgress })
      } finally {
        see?.dispose()
      }
    },
  }
}
/** `int3 in groups of 64`, `gptq of 3 bits in groups of 64`, `gguf Q4_0` */
const titleOf = ({ name, options }: Codec<any>): string => {
  const { group, type, bits } = (options ?? {}) as { group?: number; type?: string; bits?: number }
  const width = bits && !name.endsWith(`${bits}`) ? ` of ${bits} bits` : ''
  return `${name}${type ? ` ${type}` : ''}${width}${group ? ` in groups of ${group}` : ''}`
}

/** of a codec by its name alone: as many bits as there are, groups as in CANDIDATES, and zero points, which GPTQ has none of by default */
const rungsOf = (name: string): CodecSettings[] => {
  const known = methods.find((m) => m.subpath === `@weftjs/quant/${name}`)?.options
  const zeros = known?.includes('symmetric') && { symmetric: false }
  return [64, 32].flatMap((group) => [2, 3, 4, 8].map((bits) => ({ name, bits, group, ...zeros })))
}

/** @throws Failure for an option that there is not */
export const mixedPlan = (options: Config, field: string): Plan => {
  const wrong = refuser(field)
  const { bits, of = CANDIDATES, by, ...rest } = options as { bits?: unknown; of?: unknown; by?: unknown }
  const [odd] = Object.keys(rest)
  if (odd !== undefined) throw wrong(`mixed has no option '${odd}'; it has bits, of, by`)
  if (by !== undefined && !(MEASURES as readonly unknown[]).includes(by))
    throw wrong(`mixed: by must be one of ${MEASURES.join(', ')}, found ${JSON.stringify(by)}`)
  if (typeof bits !== 'number' || !(bits > 0))
    throw wrong(`mixed needs a budget of bits per weight; write mixed:bits=4.5`)
  const listed = typeof of === 'string' && !of.includes(':') ? rungsOf(of) : of
  if (!Array.isArray(listed) || !listed.length)
    throw wrong(`of must be a list of codecs, or the name of one in 2, 3, 4 and 8 bits: affine, gptq, hqq`)
  const candidates = (listed as CodecSettings[]).map((c) => codecOf(c, field))
  return byNeed(bits, candidates, by as By | undefined)
}
