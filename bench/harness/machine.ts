import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { arch, cpus, loadavg, platform, totalmem } from 'node:os'

/** cores that are not two threads of one */
export const physicalCores = (): number => {
  try {
    if (platform() === 'linux') {
      const folder = '/sys/devices/system/cpu'
      const siblings = readdirSync(folder)
        .filter((n) => /^cpu\d+$/.test(n) && existsSync(`${folder}/${n}/topology/thread_siblings_list`))
        .map((n) => readFileSync(`${folder}/${n}/topology/thread_siblings_list`, 'utf8').trim())
      if (siblings.length) return new Set(siblings).size
    }
    if (platform() === 'darwin') {
      const { stdout } = spawnSync('sysctl', ['-n', 'hw.physicalcpu'], { encoding: 'utf8' })
      if (Number(stdout) > 0) return Number(stdout)
    }
  } catch {
    // as many as the system shows
  }
  return cpus().length
}

/** `AMD EPYC, 2 cores, 24 GB, linux x64, Node 20.19.0`: what somebody needs to repeat a run, and no name of a host */
export const machine = (): string => {
  const model = (cpus()[0]?.model ?? 'unknown processor').replace(/\s+/g, ' ').trim()
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${model}, ${physicalCores()} cores, ${memory} GB, ${platform()} ${arch()}, Node ${process.versions.node}`
}

export const load = (): number => loadavg()[0]!

/** milliseconds that all cores together have computed since the machine started */
export const busy = (): number => cpus().reduce((n, { times: t }) => n + t.user + t.nice + t.sys + t.irq, 0)

/** milliseconds that this process has computed */
export const own = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

interface Ticks {
  readonly pid: number
  readonly name: string
  readonly ticks: number
}
const processes = (): Ticks[] =>
  readdirSync('/proc')
    .filter((n) => /^\d+$/.test(n))
    .flatMap((pid) => {
      try {
        const [, name = '', rest = ''] = /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
        const fields = rest.split(' ')
        return [{ pid: Number(pid), name, ticks: Number(fields[11]) + Number(fields[12]) }]
      } catch {
        return [] // it has ended
      }
    })

/** the processes that compute most in a moment, but for those given: `node (4711) 98%` */
export const busiest = async (except: ReadonlySet<number> = new Set(), moment = 300): Promise<string[]> => {
  const pause = new Promise((resolve) => setTimeout(resolve, moment))
  if (platform() !== 'linux') {
    const { stdout = '' } = spawnSync('ps', ['-A', '-o', 'pcpu=,pid=,comm='], { encoding: 'utf8' })
    return (stdout ?? '')
      .split('\n')
      .map((line) => /^\s*([\d.]+)\s+(\d+)\s+(.*)$/.exec(line))
      .filter((m) => m !== null && !except.has(Number(m[2])))
      .sort((a, b) => Number(b![1]) - Number(a![1]))
      .slice(0, 3)
      .map((m) => `${m![3]!.split('/').at(-1)} (${m![2]}) ${Math.round(Number(m![1]))}%`)
  }
  const before = new Map(processes().map((p) => [p.pid, p.ticks]))
  await pause
  return processes()
    .map((p) => ({ ...p, percent: ((p.ticks - (before.get(p.pid) ?? p.ticks)) * 1000) / moment }))
    .filter((p) => p.percent >= 5 && !except.has(p.pid))
    .sort((a, b) => b.percent - a.percent)
    .slice(0, 3)
    .map((p) => `${p.name} (${p.pid}) ${Math.round(p.percent)}%`)
}

/** processor time of a process and all that it has started, in milliseconds; Linux only, 0 elsewhere */
export const treeTime = (root: number = process.pid): number => {
  if (platform() !== 'linux') return 0
  const parents = new Map<number, { parent: number; ticks: number }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const rest = readFileSync(`/proc/${name}/stat`, 'utf8')
        .replace(/^\d+ \(.*\) /s, '')
        .split(' ')
      parents.set(Number(name), { parent: Number(rest[1]), ticks: Number(rest[11]) + Number(rest[12]) })
    } catch {
      // it has ended
    }
  }
  const within = (pid: number): boolean => pid === root || (parents.has(pid) && within(parents.get(pid)!.parent))
  let ticks = 0
  for (const [pid, p] of parents) if (within(pid)) ticks += p.ticks
  return ticks * 10
}
