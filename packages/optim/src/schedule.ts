import type { Schedule } from './transform.ts'

export interface ScheduleOptions {
  /** steps in all */
  readonly steps: number
  /** steps over which the rate rises from 0 */
  readonly warmup?: number
}

/** rises over `warmup` steps, as transformers' schedules do: the first step has rate 0 when there is a warm-up */
const warm =
  (lr: number, warmup: number, then: Schedule): Schedule =>
  (step) =>
    step < warmup ? (lr * step) / Math.max(1, warmup) : then(step)

export const constant = (lr: number, { warmup = 0 }: Partial<ScheduleOptions> = {}): Schedule =>
  warm(lr, warmup, () => lr)

/** to 0 at the last step along a line */
export const linear = (lr: number, { steps, warmup = 0 }: ScheduleOptions): Schedule =>
  warm(lr, warmup, (step) => lr * Math.max(0, (steps - step) / Math.max(1, steps - warmup)))

/** to 0 at the last step along half a cosine  —  Loshchilov & Hutter, arXiv:1608.03983 */
export const cosine = (lr: number, { steps, warmup = 0 }: ScheduleOptions): Schedule =>
  warm(lr, warmup, (step) => {
    const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup))
    return lr * 0.5 * (1 + Math.cos(Math.PI * progress))
  })

export interface WsdOptions extends ScheduleOptions {
  /** steps of the last part, over which the rate falls to 0 */
  readonly decay: number
}

/** warm-up, stable, decay: constant until the last `decay` steps, then to 0 along a line  —  Hu et al., arXiv:2404.06395 */
export const wsd = (lr: number, { steps, warmup = 0, decay }: WsdOptions): Schedule =>
  warm(lr, warmup, (step) => lr * Math.min(1, Math.max(0, (steps - step) / Math.max(1, decay))))
