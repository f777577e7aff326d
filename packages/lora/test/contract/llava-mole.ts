import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: (['masked', 'sparse', 'dense'] as const).map((dispatch) => ({ rank: 4, dispatch })),
  suite: { at: ['blocks.*.mlp', 'blocks.*.mlp.*'] },
}
