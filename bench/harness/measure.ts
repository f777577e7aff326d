import { busiest, busy, own } from './machine.ts'
import { missingPeer } from './peers.ts'
import { type Running, type StartOptions, start } from './process.ts'
import { disagreement, rowOf } from './stats.ts'
import type { Match, Ran, Row, Unit } from './types.ts'

/** Other processes took the cores, so that the figures would say nothing. */
export class Disturbed extends Error {
  override readonly name = 'Disturbed'
}

export interface MeasureOptions extends StartOptions {
  readonly rounds?: number | undefined
  /** tell figures of a busy machine too, marked as such */
  readonly anyway?: boolean
  /** milliseconds of rest before each unit, so that no side finds the other still at work */
  readonly pause?: number
  /** units that may be repeated in a match, for that others computed meanwhile */
  readonly repeats?: number
  readonly onProgress?: (line: string) => void
  /** cores that others take, in place of what the system says (tests) */
  readonly foreign?: () => number
}

/** of one core; and 30 ms at the least, since systems count processor time in ticks of 10 */
const FOREIGN = 0.1
const TICKS = 30

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Cores that others took in `wall` milliseconds, `busy` of which all cores and `own` our processes computed; 0 for few. */
export const judge = ({ busy, own, wall }: { busy: number; own: number; wall: number }): number => {
  const foreign = busy - own
  return foreign > Math.max(FOREIGN * wall, TICKS) ? foreign / wall : 0
}

const observed = async <T extends { cpu: number }>(run: () => Promise<T>): Promise<T & { foreign: number }> => {
  const [before, mine, begun] = [busy(), own(), performance.now()]
  const result = await run()
  const wall = performance.now() - begun
  return { ...result, foreign: judge({ busy: busy() - before, own: result.cpu + own() - mine, wall }) }
}

const refuse = async (what: string, except: ReadonlySet<number>): Promise<never> => {
  const who = (await busiest(except)).join(', ') || 'no other process is at work now; perhaps a side that should idle'
  throw new Disturbed(
    `${what}: ${who}. Figures of a busy machine say nothing; stop what computes, or look at them by --anyway`,
  )
}

/** throws when the machine is not at rest within some seconds */
export const atRest = async ({
  anyway = false,
  tries = 10,
}: {
  anyway?: boolean
  tries?: number
} = {}): Promise<boolean> => {
  for (let i = 0; i < tries; i++) {
    const { foreign } = await observed(async () => {
      await sleep(500)
      return { cpu: 0 }
    })
    if (!foreign) return true
    if (anyway) return false
  }
  return refuse('another process takes the cores', new Set([process.pid]))
}

/** What a match has shown: sides that ran, and why others did not. */
export interface Outcome {
  readonly ran: Readonly<Record<string, Ran>>
  readonly missing: Readonly<Record<string, string>>
  readonly rows: readonly Row[]
  readonly disturbed: boolean
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/**
 * Runs the sides of a match in turn, A B A B, each in a process that stays. A side whose peer is not installed, or that
 * fails, is left out, and its rows say why.
 * @throws Disturbed when others compute, unless `anyway`
 */
export const measure = async (match: Match, options: MeasureOptions): Promise<Outcome> => {
  const { anyway = false, pause = 200, repeats = 8, onProgress = () => {} } = options
  const rounds = options.rounds ?? match.rounds ?? 7
  const warmup = match.warmup ?? 1
  const missing: Record<string, string> = {}
  const sides = new Map<string, Running>()
  const units: Record<string, Unit[]> = {}
  let disturbed = false
  let left = repeats
  const out = (key: string, error: unknown): void => {
    missing[key] = message(error)
    sides.get(key)?.kill()
    sides.delete(key)
    onProgress(`${match.sides[key]!.label} is out: ${missing[key]}`)
  }
  try {
    for (const [key, side] of Object.entries(match.sides)) {
      const reason = missingPeer(side.needs ?? [], options.python)
      if (reason) {
        missing[key] = reason
        continue
      }
      try {
        const begun = performance.now()
        sides.set(key, await start(side, options))
        onProgress(`${side.label} is ready after ${((performance.now() - begun) / 1000).toFixed(1)} s`)
      } catch (error) {
        out(key, error)
      }
    }
    for (let round = -warmup; round < rounds; round++)
      for (const [key, side] of [...sides]) {
        try {
          for (;;) {
            await sleep(pause)
            const seen = await observed(side.go)
            const { unit } = seen
            const foreign = options.foreign?.() ?? seen.foreign
            if (foreign && !anyway && round >= 0) {
              if (left-- > 0) continue
              await refuse(
                `others took ${foreign.toFixed(2)} cores while ${side.label} was measured`,
                new Set([process.pid, ...[...sides.values()].map((s) => s.pid)]),
              )
            }
            if (round >= 0) {
              if (foreign) disturbed = true
              units[key] ??= []
              units[key].push(unit)
            }
            onProgress(
              `${round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`}: ${side.label} ${unit.ms.toFixed(1)} ms`,
            )
            break
          }
        } catch (error) {
          if (error instanceof Disturbed) throw error
          out(key, error)
        }
      }
    const ran: Record<string, Ran> = {}
    for (const [key, side] of [...sides])
      try {
        ran[key] = { ...(await side.end()), units: units[key] ?? [] }
      } catch (error) {
        out(key, error)
      }
    return { ran, missing, rows: rowsOf(match, ran, missing), disturbed }
  } finally {
    for (const side of sides.values()) side.kill()
  }
}

const rowsOf = (match: Match, ran: Readonly<Record<string, Ran>>, missing: Readonly<Record<string, string>>): Row[] =>
  match.rows.map((spec) => {
    const [a, b] = [ran[spec.ours], ran[spec.theirs]]
    const differ = match.agree !== undefined && a && b && a !== b ? disagreement(a, b, match.agree) : undefined
    const row = rowOf(spec, ran, missing)
    return differ ? { ...row, ratio: null, holds: null, missing: differ } : row
  })
