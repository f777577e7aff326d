/** Results go to standard output, everything said about them to standard error. */
export const print = (text: string): void => {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
}
export const printRaw = (text: string): void => {
  process.stdout.write(text)
}
export const printJson = (value: unknown): void => print(JSON.stringify(value))
export const warn = (text: string): void => {
  clear()
  process.stderr.write(`${text}\n`)
}

let drawn = false
const clear = (): void => {
  if (drawn) process.stderr.write('\r\x1b[2K')
  drawn = false
}

/** A line that is drawn over itself on a terminal; elsewhere now and then a line of its own. */
export const status = (text: string, important = false): void => {
  if (process.stderr.isTTY) {
    const width = process.stderr.columns ?? 80
    process.stderr.write(`\r\x1b[2K${text.slice(0, width - 1)}`)
    drawn = true
  } else if (important) process.stderr.write(`${text}\n`)
}
export const statusDone = (): void => clear()

/** [=====     ] */
export const bar = (part: number, width = 20): string => {
  const full = Math.round(Math.min(1, Math.max(0, part)) * width)
  return `[${'='.repeat(full)}${' '.repeat(width - full)}]`
}

/** [=====     ] 3/12 */
export const counted = (done: number, of: number): string => `${bar(done / of)} ${done}/${of}`

export const clock = (seconds: number): string => {
  const s = Math.max(0, Math.round(seconds))
  const [h, m] = [Math.floor(s / 3600), Math.floor((s % 3600) / 60)]
  const two = (n: number): string => String(n).padStart(2, '0')
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`
}

export const size = (bytes: number): string => {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const i = bytes > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3)) : 0
  return `${(bytes / 1000 ** i).toFixed(i ? 1 : 0)} ${units[i]}`
}
