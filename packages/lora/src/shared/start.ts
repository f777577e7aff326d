import type { Rng, Site, Tensor, Weight } from '@weftjs/spec'

/** U(±1/√n), n the length of the last axis: PyTorch's `kaiming_uniform_` with a = √5 on a matrix [..., n] */
export const kaiming = (rng: Rng, shape: number[]): Tensor =>
  rng.uniform(shape, -1 / Math.sqrt(shape.at(-1)!), 1 / Math.sqrt(shape.at(-1)!))

/** @throws Error that names the place, for what is no whole number of at least `least` */
export const mustBeWhole = (where: string, what: string, n: number, least = 1): void => {
  if (!Number.isInteger(n) || n < least)
    throw new Error(`${where}: ${what} must be a whole number of at least ${least}, found ${n}`)
}

/** @throws Error that names the site, for a rank that its matrix cannot have */
export const mustFit = (site: Site, rank: number): void => {
  const { name } = site
  mustBeWhole(name, 'rank', rank)
  const [out, input] = weightOf(site).shape
  if (rank > Math.min(out, input))
    throw new Error(`${name}: rank ${rank} exceeds min(${out}, ${input}); lower rank or narrow "at"`)
}

/** the matrix of a site. @throws Error where there is none */
export const weightOf = ({ name, kind, weight }: Site): Weight => {
  if (weight) return weight
  throw new Error(`${name} (${kind}): there is no weight here to adapt; narrow "at" to linear sites`)
}

/** @throws Error for an option that is no finite number */
export const mustBeNumber = (what: string, n: number): void => {
  if (!Number.isFinite(n)) throw new Error(`${what} must be a number, found ${n}`)
}
