import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { softwareVulkan } from '../../tools/swiftshader.mjs'
import { compiled } from './compile.ts'
import type { Facts, Ran, Side, Unit } from './types.ts'

/** what a side says, each on a line of its own behind the mark; every other line it prints is only kept for errors */
type Said =
  | { readonly event: 'ready'; readonly facts: Facts; readonly check?: number }
  | { readonly event: 'unit'; readonly unit: Unit; readonly cpu: number; readonly check?: number }
  | { readonly event: 'end'; readonly peak: number; readonly cpu: number }
export const MARK = '@weft '

export interface Running {
  readonly label: string
  readonly pid: number
  readonly facts: Facts
  /** one unit; `cpu` is the milliseconds that the side has computed within */
  go(): Promise<{ unit: Unit; cpu: number }>
  /** lets it end and tells what remains; `cpu` is all that it has computed, in milliseconds */
  end(): Promise<Pick<Ran, 'peak' | 'checks' | 'facts' | 'label'> & { readonly cpu: number }>
  kill(): void
}

export interface StartOptions {
  readonly threads: number
  readonly python?: string | undefined
  /** keep settings of BLAS libraries that the shell has made */
  readonly keepEnv?: boolean
  /** milliseconds for setting up and for each unit */
  readonly limit?: number
}

const folder = fileURLToPath(new URL('../sides/', import.meta.url))
const root = fileURLToPath(new URL('../../', import.meta.url))

const environment = async (side: Side, { threads, keepEnv, python }: StartOptions): Promise<NodeJS.ProcessEnv> => {
  const n = String(threads)
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ...(side.gpu && (await softwareVulkan())),
    ...{ OPENBLAS_NUM_THREADS: n, OMP_NUM_THREADS: n, MKL_NUM_THREADS: n, VECLIB_MAXIMUM_THREADS: n },
    ...{ TOKENIZERS_PARALLELISM: 'false', HF_HUB_OFFLINE: '1', PYTHONWARNINGS: 'ignore' },
    ...(python && { WEFT_BENCH_PYTHON: python }),
    ...side.env,
  }
  // a core type or a cache size that somebody has set for another program
  if (!keepEnv) for (const name of ['OPENBLAS_CORETYPE', 'OPENBLAS_L2_SIZE']) delete env[name]
  return env
}

/** of what a process printed: its last error and the lines after it, or the end */
const complaint = (printed: readonly string[]): string[] => {
  const at = printed.findLastIndex((line) => /(^|\s)\w*(Error|Exception)\b.*:/.test(line))
  // it is kept with the figures, which say nothing of where a machine has its files
  return (at < 0 ? printed.slice(-4) : printed.slice(at, at + 4)).map((line) =>
    line.replaceAll(root, '').trim().slice(0, 300),
  )
}

/** Starts a side and waits until it has set up. @throws Error with the end of what it printed when it fails */
export const start = async (side: Side, options: StartOptions): Promise<Running> => {
  const { threads, python = 'python3', limit = 600_000 } = options
  const told = JSON.stringify({ ...side.options, threads })
  const script = side.compiled ? await compiled(side.script) : `${folder}${side.script}`
  const loader = side.compiled ? [] : ['--import', 'tsx', '--conditions=@weftjs/source']
  const node = [...loader, '--no-warnings', script, told]
  const child: ChildProcess = side.script.endsWith('.py')
    ? spawn(python, ['-u', script, told], { env: await environment(side, options), cwd: root })
    : spawn(process.execPath, node, { env: await environment(side, options), cwd: root })
  const printed: string[] = []
  const waiting: { resolve(said: Said): void; reject(error: Error): void }[] = []
  const checks: number[] = []
  let over: Error | undefined
  const fail = (why: string): void => {
    over ??= new Error([`${side.label}: ${why}`, ...complaint(printed)].join('\n    '))
    for (const w of waiting.splice(0)) w.reject(over)
  }
  createInterface({ input: child.stdout! }).on('line', (line) => {
    if (!line.startsWith(MARK)) return void printed.push(line)
    const said = JSON.parse(line.slice(MARK.length)) as Said
    if ('check' in said && said.check !== undefined) checks.push(said.check)
    waiting.shift()?.resolve(said)
  })
  createInterface({ input: child.stderr! }).on('line', (line) => printed.push(line))
  child.stdin!.on('error', () => {}) // told by `exit`
  child.once('error', (error) => fail(`could not be started: ${error.message}`))
  child.once('close', (code, signal) => fail(`ended by itself (${signal ?? `exit code ${code}`})`))

  const next = async <E extends Said['event']>(event: E, word?: string): Promise<Extract<Said, { event: E }>> => {
    if (over) throw over
    let timer: NodeJS.Timeout | undefined
    const said = await new Promise<Said>((resolve, reject) => {
      waiting.push({ resolve, reject })
      timer = setTimeout(() => {
        fail(`did not answer in ${limit / 1000} s`)
        child.kill('SIGKILL')
      }, limit)
      if (word) child.stdin!.write(`${word}\n`)
    }).finally(() => clearTimeout(timer))
    if (said.event !== event) throw new Error(`${side.label}: said ${said.event} where ${event} was due`)
    return said as Extract<Said, { event: E }>
  }

  const { facts } = await next('ready')
  return {
    label: side.label,
    pid: child.pid!,
    facts,
    go: async () => {
      const { unit, cpu } = await next('unit', 'go')
      return { unit, cpu }
    },
    end: async () => {
      const { peak, cpu } = await next('end', 'end')
      over = new Error(`${side.label}: has ended`)
      child.stdin!.end()
      return { label: side.label, peak, cpu, checks, facts }
    },
    kill: () => {
      over ??= new Error(`${side.label}: was ended`)
      child.kill('SIGKILL')
    },
  }
}
