import { appendFile, mkdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { inputsOf, nextToken, type Tuned } from '@weftjs/model'
import {
  adamw,
  chain,
  clipByGlobalNorm,
  constant,
  cosine,
  linear,
  packState,
  type Schedule,
  sgd,
  train,
  unpackState,
  wsd,
} from '@weftjs/optim'
import type { Batch, Params, Rng, Transform } from '@weftjs/spec'
import { type Backend, dispose, peakBytes, tensor, tidy } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile, saveSafetensors } from '@weftjs/tensor/checkpoint/file'
import { Failure } from './fail.ts'
import { writeJson, writeWhole } from './files.ts'
import type { TrainSettings } from './runfile.ts'
import { bar, clock, size, status, statusDone, warn } from './terminal.ts'

export interface Run {
  readonly tuned: Tuned
  readonly settings: TrainSettings
  readonly out: string
  readonly backend: Backend
  readonly resume: boolean
  /** written to run.json: everything that makes this run what it is */
  readonly record: Readonly<Record<string, unknown>>
  /** training batches from the one after the first `skip` */
  batches(skip: number): AsyncIterable<Batch>
  readonly validation: readonly Batch[]
  readonly rng: Rng
  /** weight decay spares these */
  decays?(name: string): boolean
}

export interface Outcome {
  readonly params: Params
  readonly step: number
  /** stopped by Ctrl-C before the last step */
  readonly interrupted: boolean
  readonly loss: number | undefined
  readonly validation: number | undefined
}

export const scheduleOf = ({ schedule, lr, steps, warmup, decay }: TrainSettings): Schedule => {
  if (warmup > steps) throw new Failure(`train.warmup: ${warmup} steps are more than train.steps (${steps})`)
  if (schedule === 'constant') return constant(lr, { warmup })
  if (schedule === 'linear') return linear(lr, { steps, warmup })
  if (schedule === 'wsd') return wsd(lr, { steps, warmup, decay: decay ?? Math.round(steps / 5) })
  return cosine(lr, { steps, warmup })
}

const transformOf = (s: TrainSettings, decays: ((name: string) => boolean) | undefined): Transform<unknown> => {
  const lr = scheduleOf(s)
  const [b1, b2] = s.betas
  const inner =
    s.optimizer === 'sgd'
      ? sgd({ lr, momentum: s.momentum, weightDecay: s.weight_decay })
      : adamw({ lr, b1, b2, weightDecay: s.weight_decay, ...(decays && { decays }) })
  return (s.clip === undefined ? inner : chain(clipByGlobalNorm(s.clip), inner)) as Transform<unknown>
}

const CHECKPOINT = 'checkpoint.safetensors'
/** settings that may change when a run goes on */
const FREE = new Set(['checkpoint', 'validate'])
const fingerprint = (record: Readonly<Record<string, unknown>>): string =>
  JSON.stringify(record, (key, value: unknown) => (FREE.has(key) ? undefined : value))

/** Trains to the last step or to Ctrl-C, with a log, checkpoints and a bar. */
export const runTraining = async (run: Run): Promise<Outcome> => {
  const { tuned, settings, out, validation } = run
  const transform = transformOf(settings, run.decays)
  const lr = scheduleOf(settings)
  await mkdir(out, { recursive: true })
  const log = join(out, 'log.jsonl')
  const start = run.resume ? await restore(run) : undefined
  if (!start && !run.resume && (await exists(join(out, CHECKPOINT))))
    warn(`${out}: starting over; what an earlier run left there is replaced`)
  await rewriteLog(log, start?.step ?? 0)
  if (!start) await rm(join(out, CHECKPOINT), { force: true })
  await writeJson(join(out, 'run.json'), { ...run.record, backend: run.backend, resumed: start?.step })

  const stop = new AbortController()
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130)
    stop.abort()
    warn('stopping after this step; Ctrl-C again to stop at once')
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  const peak = peakBytes()
  peak.reset()
  const began = performance.now()
  let params = start?.params ?? tuned.params
  let step = start?.step ?? 0
  let loss: number | undefined
  let seen = 0
  let averaged: number | undefined
  try {
    const steps = train<Batch>({
      params,
      transform,
      data: run.batches(step * settings.accumulate),
      loss: (p, batch, { rng }) => nextToken(tuned.run(p, inputsOf(batch), { training: true, rng }), batch),
      weight: (batch) => batch.targets.reduce((n, t) => n + (t >= 0 ? 1 : 0), 0),
      steps: settings.steps,
      accumulate: settings.accumulate,
      seed: settings.seed,
      step,
      signal: stop.signal,
      ...(start && { state: start.state }),
    })
    // the trainer works on copies
    if (start) dispose([...Object.values(start.params)])
    let last: { params: Params; state: unknown } | undefined
    for await (const s of steps) {
      params = s.params
      last = s
      step = s.step
      loss = s.loss
      averaged = averaged === undefined ? s.loss : 0.95 * averaged + 0.05 * s.loss
      if (!Number.isFinite(s.loss))
        throw new Failure(
          `step ${s.step}: the loss is ${s.loss}; lower train.lr, set train.clip, or look at the data of this step`,
        )
      const tokens = s.batches.reduce((n, b) => n + b.shape[0] * b.shape[1], 0)
      seen += tokens
      const row: Record<string, unknown> = {
        step: s.step,
        loss: s.loss,
        lr: lr(s.step - 1),
        tokens_per_second: Math.round(tokens / (s.milliseconds / 1000)),
        peak_bytes: peak.bytes,
        tensors: s.tensors,
      }
      const end = s.step === settings.steps
      if (validation.length && settings.validate && (s.step % settings.validate === 0 || end))
        row['validation'] = await measure(tuned, s.params, validation)
      await appendFile(log, `${JSON.stringify(row)}\n`)
      const elapsed = (performance.now() - began) / 1000
      const done = s.step - (start?.step ?? 0)
      const left = (elapsed / done) * (settings.steps - s.step)
      status(
        `${bar(s.step / settings.steps)} ${s.step}/${settings.steps}  loss ${averaged.toFixed(3)}  ${Math.round(seen / elapsed)} tok/s  ${size(peak.bytes)}  ${clock(left)} left`,
        s.step === 1 || end || s.step % Math.max(1, Math.round(settings.steps / 20)) === 0,
      )
      if (s.step % settings.checkpoint === 0 || end) await checkpoint(run, s.step, s.params, s.state)
      // let signals in
      await new Promise(setImmediate)
      if (stop.signal.aborted) {
        await checkpoint(run, s.step, s.params, s.state)
        break
      }
    }
    statusDone()
    if (!last && step < settings.steps)
      throw new Failure('the data ended before the first step; check data.path, train.batch and train.length')
    const measured = validation.length ? await measure(tuned, params, validation) : undefined
    return { params, step, loss, validation: measured, interrupted: stop.signal.aborted && step < settings.steps }
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}

/** mean loss per target over batches */
export const measure = async (tuned: Tuned, params: Params, batches: readonly Batch[]): Promise<number> => {
  let [sum, count] = [0, 0]
  for (const batch of batches) {
    const n = batch.targets.reduce((k, t) => k + (t >= 0 ? 1 : 0), 0)
    if (!n) continue
    const loss = tidy(() => nextToken(tuned.run(params, inputsOf(batch)), batch))
    sum += (await loss.data())[0]! * n
    count += n
    loss.dispose()
  }
  return sum / count
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

/** keeps the lines of the steps that a resumed run stands on */
const rewriteLog = async (path: string, step: number): Promise<void> => {
  if (!step) return writeWhole(path, '')
  const lines = (await readFile(path, 'utf8').catch(() => '')).split('\n').filter((line) => {
    try {
      return (JSON.parse(line) as { step: number }).step <= step
    } catch {
      return false
    }
  })
  await writeWhole(path, lines.map((l) => `${l}\n`).join(''))
}

const checkpoint = async ({ out, record }: Run, step: number, params: Params, state: unknown): Promise<void> => {
  const packed = packState({ params, state })
  await saveSafetensors(
    join(out, CHECKPOINT),
    Object.entries(packed.tensors).map(([name, t]) => ({
      name,
      dtype: t.dtype === 'int32' ? ('I32' as const) : ('F32' as const),
      shape: t.shape,
      data: async () => {
        const values = await t.data()
        return new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice()
      },
    })),
    { step: String(step), state: packed.json, settings: fingerprint(record) },
  )
}

const restore = async ({
  out,
  tuned,
  record,
}: Run): Promise<{ step: number; params: Params; state: unknown } | undefined> => {
  const path = join(out, CHECKPOINT)
  if (!(await exists(path))) {
    warn(`${path}: nothing to resume; starting at step 0`)
    return undefined
  }
  const file = await openSafetensors(await fromFile(path))
  try {
    const { step, state: json, settings } = file.metadata
    if (step === undefined || json === undefined)
      throw new Failure(`${path}: not a checkpoint of a run; remove it, or start without --resume`)
    if (settings !== fingerprint(record))
      throw new Failure(
        `${path}: this checkpoint was made with other settings (${difference(settings, record)}); go back to them, or start without --resume`,
      )
    const tensors: Record<string, ReturnType<typeof tensor>> = {}
    for (const name of file.names) {
      const { shape, dtype } = file.entry(name)
      tensors[name] =
        dtype === 'I32'
          ? tensor(await file.ints(name), shape as number[], 'int32')
          : tensor(await file.floats(name), shape as number[])
    }
    const { params, state } = unpackState({ tensors, json }) as { params: Params; state: unknown }
    const odd = Object.keys(tuned.params).find((n) => params[n]?.shape.join() !== tuned.params[n]!.shape.join())
    if (odd)
      throw new Failure(
        `${path}: ${odd} is not in this checkpoint with shape [${tuned.params[odd]!.shape}]; start without --resume`,
      )
    return { step: Number(step), params, state }
  } finally {
    await file.close()
  }
}

/** the first field in which two records differ */
const difference = (before: string | undefined, after: Readonly<Record<string, unknown>>): string => {
  const walk = (a: unknown, b: unknown, path: string): string | undefined => {
    if (JSON.stringify(a) === JSON.stringify(b)) return undefined
    if (a && b && typeof a === 'object' && typeof b === 'object')
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
        const found = walk(
          (a as Record<string, unknown>)[key],
          (b as Record<string, unknown>)[key],
          path ? `${path}.${key}` : key,
        )
        if (found) return found
      }
    return `${path} was ${JSON.stringify(a)}, is ${JSON.stringify(b)}`
  }
  return walk(JSON.parse(before ?? '{}'), JSON.parse(fingerprint(after)), '') ?? 'unknown'
}
