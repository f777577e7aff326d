import type { Recipe } from '../lab.ts'

/** mixes LoRAs that are trained already */
export const recipe: Recipe | null = null
