import type { Trial } from '../contract.ts'

export const trial: Trial = {
  options: [{ group: 8 }, { group: 4, variant: 2 }, { group: 2, variant: 4 }],
}
