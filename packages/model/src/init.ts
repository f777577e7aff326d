import type { Config, Network, Rng, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { fill, keep, tidy, zeros } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { type Architecture, architectureOf, architectures as builtIn, namesOf } from './architectures/index.ts'
import type { TransformerConfig } from './config.ts'
import { placeOf } from './places.ts'

/**
 * A network with random weights, to be pretrained, from the fields of a config.json. Matrices and tables are normal with
 * `initializer_range` (0.02) as deviation, those that write to the residual stream narrower by √(2·layers) (Radford et
 * al., 2019); norms start as the identity, biases at zero. The same rng gives the same network on every backend.
 */
export const initNetwork = (
  source: Config,
  rng: Rng,
  { architectures = builtIn }: { architectures?: readonly Architecture[] } = {},
): Network<TransformerConfig> => {
  const config = architectureOf(source, architectures).config(source)
  const given = source['initializer_range'] ?? 0.02
  if (typeof given !== 'number' || !(given >= 0))
    throw new Error(
      `config.json: initializer_range must be a number that is not negative, found ${JSON.stringify(given)}`,
    )
  const weights: Record<string, Weight> = {}
  const vectors: Record<string, Tensor> = {}
  for (const { name } of namesOf(config)) {
    const { shape, axes } = placeOf(config, name)
    const sides = shape as number[]
    const inner = name.startsWith('blocks.') && axes?.[0] === 'residual'
    const deviation = inner ? given / Math.sqrt(2 * config.layers) : given
    const normal = (): Tensor => tidy(() => keep(rng.fork(name).normal(sides, deviation)))
    if (axes) weights[name] = dense(normal() as Tensor2D)
    else if (sides.length > 1 || name === 'cls') vectors[name] = normal()
    else vectors[name] = tidy(() => keep(name.endsWith('.bias') ? zeros(sides) : fill(sides, 1 - config.normOffset)))
  }
  return { config, weights, vectors }
}
