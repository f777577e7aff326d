import { prepare, read } from '@weftjs/data'
import { attach, inputsOf, meanLoss, nextToken } from '@weftjs/model'
import { adamw, constant, cosine, linear, type Schedule, train } from '@weftjs/optim'
import type { Batch, Params } from '@weftjs/spec'
import { countParams, peakBytes, rng } from '@weftjs/tensor'
import type { About, Training } from '../fields.ts'
import type { Trained, TrainRequest } from '../protocol.ts'
import { plural } from '../show.ts'
import type { Context } from './main.ts'
import { describe, dropTuning, type Session, type Tuning, withBase } from './session.ts'

interface MethodFile {
  readonly about: About
  /** each method reads options of its own */
  make(options: any): Parameters<typeof attach>[1][number]['adapter']
}
/** one file a method; a new one is in the menu */
const methods = import.meta.glob<MethodFile>('../methods/*.ts', { eager: true })

const SCHEDULES: Readonly<Record<string, (lr: number, settings: Training) => Schedule>> = { constant, cosine, linear }

/** batches of the text kept apart that a measurement reads, at most */
const MEASURED = 4

const fresh = async (session: Session, { settings, method, options, parts }: TrainRequest): Promise<Tuning> => {
  const file = methods[`../methods/${method}.ts`]
  if (!file) throw new Error(`There is no method '${method}'.`)
  if (!parts.length) throw new Error('No matrix is chosen, so nothing would learn: choose at least one kind.')
  const { network } = await withBase(session, settings.base)
  const at = parts.map((part) => `blocks.*.${part}`)
  const tuned = attach(network, [{ adapter: file.make(options), at }], rng(settings.seed).fork('adapters'))
  return { tuned, params: tuned.params, title: file.about.title, steps: 0 }
}

/** lets messages in: a stop, a request to generate */
const breathe = (): Promise<void> =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve()
    }
    port2.postMessage(0)
  })

/** Trains until the last step or until it is told to stop; the adapter of each step is the session's. */
export const trainAdapter = async (
  session: Session,
  request: TrainRequest,
  { tell, signal }: Context<'train'>,
): Promise<Trained> => {
  const { settings, text } = request
  const { steps, batch, length, lr, seed } = settings
  if (settings.warmup > steps)
    throw new Error(
      `Warm-up (${plural(settings.warmup, 'step')}, under More) is longer than the training (${plural(steps, 'step')}): lower it, or train longer.`,
    )
  const going = request.resume ? session.tuning : undefined
  if (request.resume && !going) throw new Error('There is no adapter to go on from: train or load one first.')
  const { tokenizer, network } = session.loaded ?? (await withBase(session, 'float32'))
  if (length > network.config.maxLength)
    throw new Error(
      `Length is ${length}, and ${session.loaded?.name} reads at most ${network.config.maxLength} tokens at once: lower it.`,
    )
  tell({ note: `Cutting ${text.name} into tokens…` })
  const content = await text.blob.text()
  if (!content.trim()) throw new Error(`${text.name} is empty: choose a file with text.`)
  // a window in twenty is kept apart where that leaves enough to learn from
  const windows = tokenizer.encode(content).length / length
  const validation = windows / 20 >= batch ? 0.05 : 0
  const data = prepare(read(new TextEncoder().encode(content), { as: 'text' }), {
    ...{ format: 'text', tokenizer, vocabulary: network.config.vocabulary, batch, length, validation },
    rng: rng(seed).fork('data'),
  })
  const apart: Batch[] = []
  for await (const b of data.validation()) if (apart.push(b) >= MEASURED) break
  // what is wrong with the new one leaves the old one there
  const start = going ?? (await fresh(session, request))
  if (!going) dropTuning(session)
  session.tuning = start
  const { tuned } = start
  if (apart.length) tell({ note: 'Measuring the loss on text kept apart…' })
  const before = await meanLoss(tuned, start.params, apart, breathe)
  tell({ note: 'The first step, which takes longer…' })
  const peak = peakBytes()
  peak.reset()
  const parameters = countParams(tuned.params)
  let current = start
  for await (const s of train<Batch>({
    params: start.params,
    data: data.batches(),
    transform: adamw({ lr: SCHEDULES[settings.schedule]!(lr, settings), weightDecay: 0 }),
    loss: (p, b, { rng: noise }) => nextToken(tuned.run(p, inputsOf(b), { training: true, rng: noise }), b),
    steps,
    seed,
    signal,
  })) {
    if (!Number.isFinite(s.loss)) {
      dropTuning(session)
      throw new Error(`At step ${s.step} the loss is not a number any more. Lower the learning rate and train again.`)
    }
    const old = session.tuning
    if (s.step === 1 && old?.params !== tuned.params) disposeAll(old?.params)
    current = { ...start, params: s.params, steps: start.steps + s.step }
    session.tuning = current
    const tokens = s.batches.reduce((n, b) => n + b.shape[0] * b.shape[1], 0)
    tell({
      step: s.step,
      loss: s.loss,
      milliseconds: s.milliseconds,
      tokens,
      bytes: s.bytes,
      peak: peak.bytes,
      parameters,
    })
    await breathe()
    if (signal.aborted) break
  }
  const done = current.steps - start.steps
  const after = done ? await meanLoss(tuned, current.params, apart, breathe) : undefined
  return {
    steps: done,
    stopped: signal.aborted && done < steps,
    notes: data.notes,
    adapter: describe(current),
    ...(before !== undefined && after !== undefined && { before, after }),
  }
}

const disposeAll = (params: Params | undefined): void => {
  for (const t of Object.values(params ?? {})) t.dispose()
}
