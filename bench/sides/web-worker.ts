/** What a browser gives jax-js and Node does not: web workers for its threads, and a count of cores. */
import { resolveObjectURL } from 'node:buffer'
import { Worker as Thread } from 'node:worker_threads'

interface WebWorker {
  onmessage?: (event: { data: unknown }) => void
  onerror?: (error: Error) => void
  postMessage(message: unknown): void
}

const around = (source: string): string => `
const { parentPort } = require('node:worker_threads')
globalThis.self = globalThis
globalThis.postMessage = (message) => parentPort.postMessage(message)
${source}
parentPort.on('message', (data) => self.onmessage({ data }))`

/** a web worker on a thread of Node, from the URL of a blob */
function worker(this: WebWorker, url: string): void {
  const thread = resolveObjectURL(url)!
    .text()
    .then((source) => {
      const made = new Thread(around(source), { eval: true })
      made.on('message', (data) => this.onmessage?.({ data }))
      made.on('error', (error) => this.onerror?.(error as Error))
      return made
    })
  this.postMessage = (message) => void thread.then((t) => t.postMessage(message))
}

/** `Worker` and `navigator.hardwareConcurrency`, with n threads */
export const webWorkers = (n: number): void => {
  const define = (name: string, value: unknown): void =>
    void Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
  define('Worker', worker)
  define('navigator', { userAgent: 'Node', hardwareConcurrency: n })
}
