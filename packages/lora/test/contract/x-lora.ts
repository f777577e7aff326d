import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [
    { rank: 2, trainExperts: true, alpha: 4 },
    {
      experts: 3,
      rank: 2,
      trainExperts: true,
      layerwise: true,
      depth: 2,
      width: 8,
      top: 2,
      softmaxTop: true,
      alpha: [2, 3, 4],
    },
    { rank: 2, trainExperts: true, softmax: false, first: 0.5, scale: 2 },
  ],
  counts: (options) => !('layerwise' in options),
  suite: { at: ['model', 'norm', 'head', 'blocks.*.attn.{q,v,o}'] },
}
