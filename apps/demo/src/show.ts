/** Numbers for people. */
export const bytes = (n: number): string => {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, n)) / 3))
  const value = n / 1000 ** power
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}
export const clock = (seconds: number): string => {
  if (!Number.isFinite(seconds)) return '–'
  const s = Math.max(0, Math.round(seconds))
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60]
  return (parts[0] ? parts : parts.slice(1)).map((p, i) => (i ? String(p).padStart(2, '0') : p)).join(':')
}
/** 3.4 million, 12,345 */
export const count = (n: number): string =>
  n >= 1e9 ? `${(n / 1e9).toFixed(1)} billion` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} million` : n.toLocaleString('en')
/** 1 step, 1,200 steps */
export const plural = (n: number, one: string): string => `${count(n)} ${one}${n === 1 ? '' : 's'}`
/** 4.13 bits */
export const bits = (n: number): string => `${Number(n.toFixed(2))} bits`
