import type { Site } from '@weftjs/spec'
import { matchNames } from '@weftjs/weight'

/** Which sites: a glob over names (`blocks.*.attn.{q,v}`; `*` stays within a dot, `**` crosses), several, or a predicate. */
export type At = string | readonly string[] | ((site: Site) => boolean)

export const matcher = (at: At): ((site: Site) => boolean) => {
  if (typeof at === 'function') return at
  const test = matchNames(at)
  return (site) => test(site.name)
}

/** the sites that match, or an error that shows the names nearest to what was asked for */
export const match = (sites: readonly Site[], at: At): readonly Site[] => {
  const found = sites.filter(matcher(at))
  if (found.length) return found
  const first = [at].flat()[0]
  const near = typeof first === 'string' ? nearest(first, sites) : sites.slice(0, 5).map((s) => s.name)
  throw new Error(
    `no site matches ${typeof at === 'function' ? 'the predicate' : JSON.stringify(at)}; nearest are ${near.join(', ')}`,
  )
}

const nearest = (pattern: string, sites: readonly Site[]): string[] => {
  const pieces = pattern.split(/[^a-z0-9]+/i).filter(Boolean)
  const score = (name: string): number =>
    pieces.filter((p) => name.split('.').some((n) => n.startsWith(p) || p.startsWith(n))).length
  return [...sites]
    .sort((a, b) => score(b.name) - score(a.name) || a.name.length - b.name.length)
    .slice(0, 5)
    .map((s) => s.name)
}
