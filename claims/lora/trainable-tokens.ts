import type { Recipe } from '../lab.ts'

/** rows of chosen tokens: for a vocabulary that grows, not for a voice */
export const recipe: Recipe | null = null
