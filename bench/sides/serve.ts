/** The child's part of the protocol: set up, say ready, then one unit for every `go`, and the peak at `end`. */
import { createInterface } from 'node:readline'

export interface Work {
  /** what there is to know: versions, threads, devices */
  readonly facts?: Readonly<Record<string, string | number>>
  /** what a unit made while setting up computed: a loss, a logit; sides must agree on it */
  readonly check?: number
  /** one unit of work; timed from outside unless it tells `ms`. `check` and `cpu` (of other processes) are not metrics */
  unit(): Promise<Readonly<Record<string, number>>> | Readonly<Record<string, number>>
  /** bytes, where the process's own peak is not all */
  peak?(): Promise<number> | number
  close?(): Promise<void> | void
}

const say = (said: object): void => void process.stdout.write(`@weft ${JSON.stringify(said)}\n`)
const cpu = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** options as the harness gives them, with the number of threads */
export const serve = async <O>(setup: (options: O & { threads: number }) => Promise<Work>): Promise<void> => {
  const work = await setup(JSON.parse(process.argv[2] ?? '{}'))
  say({ event: 'ready', facts: work.facts ?? {}, ...(work.check !== undefined && { check: work.check }) })
  for await (const word of createInterface({ input: process.stdin })) {
    if (word === 'go') {
      const [before, begun] = [cpu(), performance.now()]
      const { check, cpu: others = 0, ...metrics } = await work.unit()
      const ms = performance.now() - begun
      say({
        event: 'unit',
        unit: { ms, ...metrics },
        cpu: cpu() - before + others,
        ...(check !== undefined && { check }),
      })
    } else if (word === 'end') {
      // kilobytes, but bytes on macOS before libuv 1.45; Node gives kilobytes everywhere
      say({ event: 'end', peak: (await work.peak?.()) ?? process.resourceUsage().maxRSS * 1024, cpu: cpu() })
      await work.close?.()
      process.exit(0)
    }
  }
  process.exit(1) // the harness has gone
}
