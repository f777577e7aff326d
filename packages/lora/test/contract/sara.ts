import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ share: 0.3 }, { threshold: 0.1, above: 4, lambda: 1e-4 }],
  suite: { lr: 0.05 },
  // a bound: the weights decide
  counts: () => false,
}
