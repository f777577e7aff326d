/** Our network with the weights that every side computes alike. */
import { architectureOf, namesOf, type TransformerConfig } from '@weftjs/model'
import type { Network, Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { keep, tensor, tidy } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { adaptersOf, configOf, type Shape, tensorsOf, valuesOf } from './shape.ts'

const made = (name: string, shape: number[]): Tensor => tidy(() => keep(tensor(valuesOf(name, shape), shape)))

export const networkOf = (shape: Shape): Network<TransformerConfig> => {
  const source = configOf(shape)
  const config = architectureOf(source).config(source)
  const ours = new Map([...namesOf(config)].map((n) => [n.hf, n.name]))
  const weights: Record<string, Weight> = {}
  const vectors: Record<string, Tensor> = {}
  for (const [hf, sizes] of tensorsOf(shape)) {
    const name = ours.get(hf)!
    if (sizes.length > 1) weights[name] = dense(made(hf, sizes) as Tensor2D)
    else vectors[name] = made(hf, sizes)
  }
  return { config, weights, vectors }
}

/** an adapter's parameters with the A that every side has; B stays zero */
export const withSameA = (params: Params, shape: Shape, rank: number): Params => {
  const found: Record<string, Tensor> = { ...params }
  for (const [name, sizes] of adaptersOf(shape, rank)) {
    const [, layer, which] = /layers\.(\d+)\.self_attn\.(.)_proj/.exec(name)!
    const key = `blocks.${layer}.attn.${which}.lora.a`
    if (!found[key]) throw new Error(`no parameter ${key}; there are ${Object.keys(params).slice(0, 2)}`)
    found[key].dispose()
    found[key] = made(name, sizes)
  }
  return found
}
