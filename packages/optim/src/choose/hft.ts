import type { Choice, Params, Site } from '@weftjs/spec'
import { mapParams, sampleOf } from '@weftjs/tensor'
import { layersOf, tensorNames, tensorsOf } from './names.ts'

export interface HftOptions {
  /** share of each kind of tensor in a block that is frozen */
  readonly ratio?: number
}

/** attention's matrices, the MLP's, and the norms of each block */
const categories = (sites: readonly Site[]): Site[][] => {
  const inBlocks = sites.filter((s) => s.layer >= 0)
  return [
    inBlocks.filter((s) => s.kind === 'linear' && s.name.includes('.attn.')),
    inBlocks.filter((s) => s.kind === 'linear' && s.name.includes('.mlp.')),
    inBlocks.filter((s) => s.kind === 'norm'),
  ].filter((c) => c.length)
}

/**
 * θ ← θ − M ⊙ update, M zero for a random half of each block, drawn anew for each phase  —  Hui et al., arXiv:2404.18466
 *
 * Of n tensors of a kind in each of L blocks ⌊ratio·n·L⌋ are frozen, as evenly as can be: 2 of q, k, v, o, 1 of 2 norms, and of
 * gate, up, down 2 in a random half of the blocks, 1 in the others. A bias goes with its matrix. Embeddings, the last norm
 * and the head train. Attach anew for each phase, so that the optimizer starts anew.
 * @family lora
 */
export const hft =
  ({ ratio = 0.5 }: HftOptions = {}): Choice =>
  (network, sites, rng) => {
    if (!(ratio > 0 && ratio < 1)) throw new Error(`hft: ratio must be in (0, 1), found ${ratio}`)
    const layers = layersOf(sites)
    const kinds = categories(sites)
    if (!layers || kinds.length < 2)
      throw new Error('hft: found no blocks with attention and an MLP; it draws within each block of a transformer')
    const frozen = new Set<string>()
    kinds.forEach((kind, which) => {
      const noise = rng.fork(`hft.${which}`)
      const blocks = Array.from({ length: layers }, (_, i) => kind.filter((s) => s.layer === i))
      const all = Math.floor(ratio * kind.length + 1e-9)
      const each = Math.floor(all / layers)
      const more = new Set(sampleOf(noise.fork('blocks'), layers, all - each * layers))
      blocks.forEach((block, i) => {
        const count = Math.min(block.length, each + (more.has(i) ? 1 : 0))
        for (const j of sampleOf(noise.fork(i), block.length, count))
          for (const name of tensorsOf(network, block[j]!)) frozen.add(name)
      })
    })
    return tensorNames(network).filter((n) => !frozen.has(n))
  }

/** Half-reset: the tensors that the choice leaves out as they were before training, the others as they are after. */
export const halfReset = (before: Params, after: Params, trains: readonly string[]): Params => {
  const kept = new Set(trains)
  return mapParams(after, (t, name) => {
    if (kept.has(name)) return t
    const old = before[name]
    if (old?.shape.join() === t.shape.join()) return old
    throw new Error(`${name}: [${t.shape}] after training and ${old ? `[${old.shape}]` : 'nothing'} before`)
  })
}
