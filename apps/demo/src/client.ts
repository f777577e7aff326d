import type { Answer, Ask, Requests } from './protocol.ts'

export interface Call<K extends keyof Requests> {
  readonly onEvent?: (event: Requests[K]['event']) => void
  /** asks the worker to stop; the answer still comes */
  readonly signal?: AbortSignal
}
export interface Client {
  call<K extends keyof Requests>(kind: K, input: Requests[K]['in'], options?: Call<K>): Promise<Requests[K]['out']>
  close(): void
}

interface Waiting {
  event(value: unknown): void
  resolve(value: unknown): void
  reject(error: Error): void
}

/** A worker as functions. Closing it refuses what is still under way; so does its end, which `onFatal` is told of. */
export const client = (worker: Worker, onFatal: () => void): Client => {
  const waiting = new Map<number, Waiting>()
  let next = 0
  /** why the worker answers no more */
  let ended: string | undefined
  const failAll = (message: string): void => {
    ended = message
    for (const w of waiting.values()) w.reject(new Error(message))
    waiting.clear()
  }
  worker.onmessage = ({ data }: MessageEvent<Answer>) => {
    if ('fatal' in data) {
      failAll(data.fatal)
      return onFatal()
    }
    const asked = waiting.get(data.id)
    if (!asked) return
    if ('event' in data) return asked.event(data.event)
    waiting.delete(data.id)
    if ('error' in data) asked.reject(new Error(data.error))
    else asked.resolve(data.value)
  }
  worker.onerror = (event) => {
    event.preventDefault()
    failAll(`The worker has failed${event.message ? `: ${event.message}` : ' to start'}. Load the page again.`)
  }
  return {
    call: (kind, input, { onEvent, signal } = {}) =>
      new Promise((resolve, reject) => {
        if (ended !== undefined) return reject(new Error(ended))
        const id = next++
        waiting.set(id, { event: onEvent as never, resolve: resolve as never, reject })
        worker.postMessage({ id, kind, input } satisfies Ask)
        signal?.addEventListener('abort', () => worker.postMessage({ stop: id } satisfies Ask))
      }),
    close: () => {
      worker.terminate()
      failAll('Stopped.')
    },
  }
}
