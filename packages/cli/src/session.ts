import { appendFile, mkdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { inputsOf, meanLoss, nextToken, revising, type Tuned, targetsIn } from '@weftjs/model'
import {
  adamw,
  chain,
  clipByGlobalNorm,
  constant,
  cosine,
  linear,
  loraFa,
  loraPlus,
  packedState,
  type Schedule,
  type StateCodec,
  type StepContext,
  sgd,
  train,
  wsd,
} from '@weftjs/optim'
import { dynamic8, state4 } from '@weftjs/quant'
import type { Batch, Params, Transform } from '@weftjs/spec'
import { type Backend, dispose, type Profile, peakBytes, startProfile } from '@weftjs/tensor'
import { Failure, usage } from './fail.ts'
import { writeJson, writeWhole } from './files.ts'
import { expectOut } from './out.ts'
import { lossPlot } from './plot.ts'
import { type StepSpans, stepSpans } from './profile.ts'
import {
  checkpointPath,
  type Identity,
  readCheckpoint,
  readLog,
  refuseUnfinished,
  rewindLog,
  writeCheckpoint,
} from './resume.ts'
import type { TrainSettings } from './schema.ts'
import { clock, counted, size, status, statusDone, warn } from './terminal.ts'
import { versions } from './versions.ts'

export interface Run extends TransformOptions {
  readonly command: 'finetune' | 'pretrain'
  readonly tuned: Tuned
  readonly identity: Identity
  readonly out: string
  readonly backend: Backend
  readonly resume: boolean
  /** a run that has not come to its end may be replaced */
  readonly restart: boolean
  /** time every kernel */
  readonly profile: boolean
  /** training batches from the one after the first `skip` */
  batches(skip: number): AsyncIterable<Batch>
  readonly validation: readonly Batch[]
}

export interface Outcome {
  readonly params: Params
  /** with the fixed tensors that adapters have moved */
  readonly tuned: Tuned
  readonly step: number
  /** stopped by Ctrl-C before the last step */
  readonly interrupted: boolean
  /** of the last step; absent where none was left to do */
  readonly loss: number | undefined
  readonly validation: number | undefined
  readonly profile: Profile | undefined
}

const scheduleOf = ({ schedule, lr, steps, warmup, decay }: TrainSettings): Schedule => {
  if (schedule === 'constant') return constant(lr, { warmup })
  if (schedule === 'linear') return linear(lr, { steps, warmup })
  if (schedule === 'wsd')
    return wsd(lr, { steps, warmup, decay: decay ?? Math.max(0, Math.min(Math.round(steps / 5), steps - warmup)) })
  return cosine(lr, { steps, warmup })
}

export interface TransformOptions {
  /** weight decay spares the others */
  decays?(name: string): boolean
  /** s of a LoRA that adds s·B·A, by the name of B */
  factor?(name: string): number
}

/** formats of the optimizer's moments: bitsandbytes' 8 bits, and Li et al.'s 4 */
const STATES: Readonly<Record<NonNullable<TrainSettings['states']>, StateCodec | undefined>> = {
  float32: undefined,
  int8: (moment) => dynamic8({ signed: moment !== 'v' }),
  int4: (moment) => (moment === 'v' ? state4({ signed: false, scale: 'rank1' }) : state4()),
}

/** the optimizer of a run's settings */
export const transformOf = (s: TrainSettings, { decays, factor }: TransformOptions = {}): Transform<unknown> => {
  const lr = scheduleOf(s)
  const [b1, b2] = s.betas
  const adam = { lr, b1, b2, weightDecay: s.weight_decay }
  const { ratio, embedding_lr: embeddingLr } = s
  // of one parameter at a time, so within whatever looks at several
  const kept = (inner: Transform<any>): Transform<any> => {
    const codec = s.states && STATES[s.states]
    return codec ? packedState(inner, { codec }) : inner
  }
  const made: Readonly<Record<TrainSettings['optimizer'], () => Transform<any>>> = {
    adamw: () => kept(adamw({ ...adam, ...(decays && { decays }) })),
    sgd: () => kept(sgd({ lr, momentum: s.momentum, weightDecay: s.weight_decay })),
    lora_plus: () =>
      loraPlus(
        { ...adam, ...(ratio !== undefined && { ratio }), ...(embeddingLr !== undefined && { embeddingLr }) },
        (options) => kept(adamw(options)),
      ),
    lora_fa: () => loraFa({ ...adam, ...(factor && { factor }) }, kept(adamw(adam))),
  }
  const inner = made[s.optimizer]()
  return (s.clip === undefined ? inner : chain(clipByGlobalNorm(s.clip), inner)) as Transform<unknown>
}

/**
 * Whether a run may go into a folder, asked before anything is loaded.
 * @throws Failure or a system error where it may not
 */
export const checkOut = async (out: string, { resume, restart }: Pick<Run, 'resume' | 'restart'>): Promise<void> => {
  if (resume && restart) throw usage('--resume goes on and --restart begins again; leave one of them out')
  await expectOut(out)
  await mkdir(out, { recursive: true })
  if (!resume && !restart) await refuseUnfinished(out)
}

/** where nothing is profiled */
const unmarked: StepSpans = { loss: (f) => f, transform: (t) => t, during: (_, f) => f(), done: () => {} }

/**
 * Trains to the last step or to Ctrl-C, with a log, checkpoints and a bar. Nothing in the folder changes before the
 * first step is done.
 */
export const runTraining = async (run: Run): Promise<Outcome> => {
  const { tuned, identity, out, validation, backend } = run
  const settings = identity.settings.train
  const transform = transformOf(settings, run)
  const lr = scheduleOf(settings)
  const { recompute = false } = settings
  if (settings.warmup > settings.steps)
    warn(
      `train.warmup: ${settings.warmup} steps are more than train.steps (${settings.steps}): the rate never reaches train.lr`,
    )
  const log = join(out, 'log.jsonl')
  const live = revising(tuned, { steps: settings.steps, seed: settings.seed })
  const start = run.resume ? await readCheckpoint(run, tuned.params, live.owns) : undefined
  if (start) dispose(Object.values(tuned.params)) // the checkpoint's take their place
  if (start?.buffers) live.load(start.buffers)
  if (run.resume && !start) warn(`${out}: no checkpoint to go on from; starting at step 0`)
  const begin = async (): Promise<void> => {
    if (!start) await rm(checkpointPath(out), { force: true })
    await rewindLog(log, start?.step ?? 0)
    const { name, device } = backend
    await writeJson(join(out, 'run.json'), {
      command: run.command,
      settings: identity.settings,
      data_bytes: identity.bytes,
      backend: { name, device },
      versions,
      ...(start && { resumed: start.step }),
    })
  }

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
  let measured: number | undefined
  let averaged: number | undefined
  let seen = 0
  const profiling = run.profile ? startProfile() : undefined
  const mark = profiling ? stepSpans(profiling, step + 1) : unmarked
  try {
    const steps = train<Batch>({
      params,
      transform: mark.transform(transform),
      data: run.batches(step * settings.accumulate),
      loss: mark.loss((p: Params, batch: Batch, { rng }: StepContext) =>
        nextToken(live.run(p, inputsOf(batch), { training: true, rng, recompute }), batch),
      ),
      weight: targetsIn,
      steps: settings.steps,
      accumulate: settings.accumulate,
      seed: settings.seed,
      step,
      signal: stop.signal,
      consume: true,
      ...(start && { state: start.state }),
      ...(live.active && { revise: live.revise }),
    })
    const keepState = (state: unknown): Promise<void> =>
      writeCheckpoint(run, { step, params, state, ...(live.active && { buffers: live.buffers }) })
    for await (const s of steps) {
      mark.done()
      if (!Number.isFinite(s.loss))
        throw new Failure(
          `step ${s.step}: the loss is ${s.loss}; lower train.lr, set train.clip, or look at the data of this step`,
        )
      if (loss === undefined) await begin()
      ;({ params, step, loss } = s)
      averaged = averaged === undefined ? loss : 0.95 * averaged + 0.05 * loss
      const tokens = s.batches.reduce((n, b) => n + b.shape[0] * b.shape[1], 0)
      seen += tokens
      const end = step === settings.steps
      const look = validation.length > 0 && (end || (settings.validate !== undefined && step % settings.validate === 0))
      measured = look ? await mark.during('validation', () => meanLoss(live.tuned, params, validation)) : undefined
      const row = {
        step,
        loss,
        lr: lr(step - 1),
        tokens_per_second: Math.round(tokens / (s.milliseconds / 1000)),
        peak_bytes: peak.bytes,
        tensors: s.tensors,
        ...(measured !== undefined && { validation: measured }),
      }
      await appendFile(log, `${JSON.stringify(row)}\n`)
      const elapsed = (performance.now() - began) / 1000
      const left = (elapsed / (step - (start?.step ?? 0))) * (settings.steps - step)
      status(
        `${counted(step, settings.steps)}  loss ${averaged.toFixed(3)}  ${Math.round(seen / elapsed)} tok/s  ${size(peak.bytes)}  ${clock(left)} left`,
        step === 1 || end || step % Math.max(1, Math.round(settings.steps / 20)) === 0,
      )
      if (step % settings.checkpoint === 0 || end) await mark.during('checkpoint', () => keepState(s.state))
      // let signals in
      await new Promise(setImmediate)
      if (stop.signal.aborted) {
        await keepState(s.state)
        break
      }
    }
    statusDone()
    const interrupted = stop.signal.aborted && step < settings.steps
    if (!interrupted && step < settings.steps)
      throw new Failure(`the data ended after step ${step} of ${settings.steps}; lower train.steps`)
    if (loss !== undefined)
      await writeWhole(join(out, 'loss.svg'), lossPlot(await readLog(log), `${basename(out)}: loss per token, nats`))
    const { tuned } = live
    return { params, tuned, step, loss, validation: measured, interrupted, profile: await profiling?.stop() }
  } finally {
    // after an error the error is what counts
    await profiling?.stop().catch(() => {})
    statusDone()
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}
