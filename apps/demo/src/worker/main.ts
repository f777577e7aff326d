import type { Answer, Ask, Requests } from '../protocol.ts'
import { startBackend } from './backend.ts'
import { explain } from './explain.ts'
import { generateBoth } from './generate.ts'
import { describe, loadAdapter, loadModel, type Session, saveAdapter } from './session.ts'
import { trainAdapter } from './train.ts'

export interface Context<K extends keyof Requests> {
  readonly tell: (event: Requests[K]['event']) => void
  readonly signal: AbortSignal
}
type Handlers = {
  [K in keyof Requests]: (input: Requests[K]['in'], context: Context<K>) => Promise<Requests[K]['out']>
}

const session: Session = {}
const handlers: Handlers = {
  start: async (choice) => {
    const { told, failure } = await startBackend(choice)
    // a device that is lost refuses nothing: whoever waits for it would wait for ever, or get zeros
    failure?.then((error) => answer({ fatal: explain(error).message }))
    return told
  },
  load: (input, context) => loadModel(session, input, context),
  train: (input, context) => trainAdapter(session, input, context),
  generate: (input, context) => generateBoth(session, input, context),
  save: () => saveAdapter(session),
  adapter: (files) => loadAdapter(session, files),
  current: async () => session.tuning && describe(session.tuning),
}

/** one after another, in the order asked: what changes the model or its adapter */
let last: Promise<unknown> = Promise.resolve()
const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
  const mine = last.then(work)
  last = mine.catch(() => {})
  return mine
}

const running = new Map<number, AbortController>()
const answer = (message: Answer): void => postMessage(message)

addEventListener('message', async ({ data }: MessageEvent<Ask>) => {
  if ('stop' in data) return running.get(data.stop)?.abort()
  const { id, kind, input } = data
  const controller = new AbortController()
  running.set(id, controller)
  try {
    const context = { tell: (event: unknown) => answer({ id, event }), signal: controller.signal }
    const work = (): Promise<unknown> => handlers[kind](input as never, context as never)
    // answers are written beside a training, and a stop is heard while another waits
    answer({ id, value: await (kind === 'generate' ? work() : inTurn(work)) })
  } catch (error) {
    const { message, fatal } = explain(error)
    answer(fatal ? { fatal: message } : { id, error: message })
  } finally {
    running.delete(id)
  }
})
