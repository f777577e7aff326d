/** Cores that this Node process may use: its affinity, cut by a container's quota. */
export const cores = (): number => {
  const os = process.getBuiltinModule('node:os')
  const fs = process.getBuiltinModule('node:fs')
  const all = os.availableParallelism()
  try {
    const [quota, period] = fs.readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').split(' ').map(Number)
    return quota && period ? Math.max(1, Math.min(all, Math.ceil(quota / period))) : all
  } catch {
    return all
  }
}
