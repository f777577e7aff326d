/** Cores that this Node process may use: its affinity, cut by a container's quota; threads of one core count once. */
export const cores = (): number => {
  const os = process.getBuiltinModule('node:os')
  const fs = process.getBuiltinModule('node:fs')
  const read = (path: string): string => {
    try {
      return fs.readFileSync(path, 'utf8').trim()
    } catch {
      return ''
    }
  }
  // two threads of one core share its multipliers: a matrix product gains nothing from the second
  const perCore = read('/sys/devices/system/cpu/smt/active') === '1' ? 2 : 1
  const all = Math.ceil(os.availableParallelism() / perCore)
  const [quota, period] = read('/sys/fs/cgroup/cpu.max').split(' ').map(Number)
  return quota && period ? Math.max(1, Math.min(all, Math.ceil(quota / period))) : all
}
