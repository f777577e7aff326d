/**
 * Worker threads that share the heap of the wasm backend with this thread: the calls of one routine are claimed one by
 * one by whoever is free, this thread among them, until all are done. A thread that never starts claims nothing, so that
 * the work is done without it.
 */
import { fitting, isShared } from './share.ts'

/** i32 words that the threads agree on; the calls' arguments follow as doubles */
const REGION = 0 // counts the regions of work; sleeping threads wait for it to change
const TICKET = 1 // calls claimed so far + 2¹⁶ · number of calls
const FINISHED = 2
const FAILED = 3
const MODULE = 4 // address of the module's bytes on the heap
const LENGTH = 5
const ROUTINE = 6 // the how manieth exported function
const ARITY = 7
const HEADER = 16
/** calls of a region, and arguments of a call */
const CALLS = 1024
const ARGUMENTS = 16
/** looks at the shared words before a thread goes to sleep: some tens of microseconds, less than a waking takes */
const SPINS = 4000
const PATIENCE_MS = 60_000

/** A worker's whole program, for Node's threads and the browser's; it knows only what it is told here. */
const program = `
const node = typeof require === 'function' ? require('node:worker_threads') : undefined
const work = ({ memory, control, thread }) => {
  const words = new Int32Array(control, 0, ${HEADER})
  const values = new Float64Array(control, ${4 * HEADER})
  const instances = new Map()
  const routinesAt = (at, length) => {
    const known = instances.get(at)
    if (known) return known
    const module = new WebAssembly.Module(new Uint8Array(memory.buffer, at, length).slice())
    const { exports } = new WebAssembly.Instance(module, { env: { memory } })
    const routines = Object.values(exports).filter((item) => typeof item === 'function')
    instances.set(at, routines)
    return routines
  }
  let seen = 0
  for (;;) {
    for (let i = 0; i < ${SPINS} && Atomics.load(words, ${REGION}) === seen; i++);
    while (Atomics.load(words, ${REGION}) === seen) Atomics.wait(words, ${REGION}, seen)
    seen = Atomics.load(words, ${REGION})
    for (;;) {
      const ticket = Atomics.load(words, ${TICKET})
      const [next, total] = [ticket & 65535, ticket >>> 16]
      if (next >= total) break
      if (Atomics.compareExchange(words, ${TICKET}, ticket, ticket + 1) !== ticket) continue
      try {
        const routine = routinesAt(words[${MODULE}] >>> 0, words[${LENGTH}])[words[${ROUTINE}]]
        const at = next * ${ARGUMENTS}
        routine(...values.subarray(at, at + words[${ARITY}]), thread)
      } catch {
        Atomics.store(words, ${FAILED}, 1)
      }
      if (Atomics.add(words, ${FINISHED}, 1) + 1 === total) Atomics.notify(words, ${FINISHED})
    }
  }
}
if (node) work(node.workerData)
else onmessage = ({ data }) => work(data)
`

/** A module on the heap, for all threads. */
export interface Threaded {
  readonly routines: Readonly<Record<string, (...values: number[]) => unknown>>
  /** Calls the routine once for each list of arguments, in any order and in several threads; the thread's number comes last. */
  each(routine: string, calls: readonly (readonly number[])[]): void
}

export interface Pool {
  /** threads that may work, this one included; a call is told a number below this */
  readonly threads: number
  load(bytes: Uint8Array<ArrayBuffer>): Threaded
}

type Routine = (...values: number[]) => unknown

interface Heap {
  readonly memory: WebAssembly.Memory
  malloc(bytes: number): number
}

const inNode = (): boolean => typeof process !== 'undefined' && !!process.versions?.node

/** Starts a worker that does not keep the process alive. */
const start = (data: object): void => {
  if (inNode()) {
    const { Worker } = process.getBuiltinModule('node:worker_threads')
    // it makes next to no garbage
    const resourceLimits = { maxYoungGenerationSizeMb: 2 }
    const worker = new Worker(program, { eval: true, workerData: data, execArgv: [], env: {}, resourceLimits })
    worker.on('error', () => {}) // the others do its work
    worker.unref()
    return
  }
  const url = URL.createObjectURL(new Blob([program], { type: 'text/javascript' }))
  const worker = new Worker(url)
  worker.onerror = (event) => event.preventDefault()
  worker.postMessage(data)
}

/** a page's main thread may not sleep; it then looks again and again */
const maySleep = (words: Int32Array<ArrayBufferLike>): boolean => {
  try {
    Atomics.wait(words, HEADER - 1, 0, 0)
    return true
  } catch {
    return false
  }
}

const instantiate = (bytes: Uint8Array<ArrayBuffer>, memory: WebAssembly.Memory): Record<string, Routine> => {
  const module = new WebAssembly.Module(fitting(bytes, memory))
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Record<string, Routine>
}

/** The pool of a heap that is not shared: this thread. */
const alone = ({ memory }: Heap): Pool => ({
  threads: 1,
  load: (bytes) => {
    const routines = instantiate(bytes, memory)
    return {
      routines,
      each: (routine, calls) => {
        for (const values of calls) routines[routine]!(...values, 0)
      },
    }
  },
})

/** Threads for the work on this heap; the workers start with the first work for more than one. */
export const makePool = (heap: Heap, threads: number): Pool => {
  const { memory, malloc } = heap
  if (threads < 2 || !isShared(memory.buffer)) return alone(heap)
  const control = new SharedArrayBuffer(4 * HEADER + 8 * CALLS * ARGUMENTS)
  const words = new Int32Array(control, 0, HEADER)
  const values = new Float64Array(control, 4 * HEADER)
  const sleeps = maySleep(words)
  let started = false
  const startAll = (): void => {
    started = true
    try {
      for (let thread = 1; thread < threads; thread++) start({ memory, control, thread })
    } catch {
      // no more threads are to be had
    }
  }

  const claim = (): number => {
    for (;;) {
      const ticket = Atomics.load(words, TICKET)
      const next = ticket & 65535
      if (next >= ticket >>> 16) return -1
      if (Atomics.compareExchange(words, TICKET, ticket, ticket + 1) === ticket) return next
    }
  }

  const finish = (total: number): void => {
    for (let i = 0; i < SPINS; i++) if (Atomics.load(words, FINISHED) === total) return
    for (let since = performance.now(), last = -1; ; ) {
      const finished = Atomics.load(words, FINISHED)
      if (finished === total) return
      if (finished !== last) [since, last] = [performance.now(), finished]
      if (performance.now() - since > PATIENCE_MS)
        throw new Error(`wasm threads: no answer for ${PATIENCE_MS / 1000} s; set WEFT_THREADS=1 to work without them`)
      if (sleeps) Atomics.wait(words, FINISHED, finished, 1000)
    }
  }

  const load = (declared: Uint8Array<ArrayBuffer>): Threaded => {
    const bytes = fitting(declared, memory)
    const routines = instantiate(declared, memory)
    const names = Object.keys(routines).filter((name) => typeof routines[name] === 'function')
    let at = 0

    const region = (routine: string, calls: readonly (readonly number[])[]): void => {
      for (const [i, call] of calls.entries()) values.set(call, i * ARGUMENTS)
      words[MODULE] = at
      words[LENGTH] = bytes.length
      words[ROUTINE] = names.indexOf(routine)
      words[ARITY] = calls[0]!.length
      words[FAILED] = 0
      Atomics.store(words, FINISHED, 0)
      Atomics.store(words, TICKET, calls.length << 16)
      Atomics.add(words, REGION, 1)
      Atomics.notify(words, REGION)
      const errors: unknown[] = []
      for (let i = claim(); i >= 0; i = claim()) {
        try {
          if (errors.length === 0) routines[routine]!(...calls[i]!, 0)
        } catch (error) {
          errors.push(error)
        }
        Atomics.add(words, FINISHED, 1)
      }
      finish(calls.length)
      if (errors.length > 0) throw errors[0]
      if (words[FAILED]) throw new Error(`wasm threads: ${routine} failed in a worker; set WEFT_THREADS=1 to see where`)
    }

    return {
      routines,
      each: (routine, calls) => {
        if (calls.length === 1) {
          routines[routine]!(...calls[0]!, 0)
          return
        }
        if (!started) startAll()
        if (at === 0) {
          at = malloc(bytes.length) >>> 0
          new Uint8Array(memory.buffer).set(bytes, at)
        }
        for (let i = 0; i < calls.length; i += CALLS) region(routine, calls.slice(i, i + CALLS))
      },
    }
  }
  return { threads, load }
}
