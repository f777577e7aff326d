export { electSign } from './deltas/elect-sign.ts'
export { type Combine, onDeltas, type Sparsify } from './deltas/on-deltas.ts'
export { keepLargest, topMagnitude } from './deltas/top-magnitude.ts'
export { weightedSum } from './deltas/weighted-sum.ts'
export { type LinearOptions, linear } from './linear.ts'
export {
  type At,
  type MergeOptions,
  type MergePlan,
  mergeCheckpoints,
  planMerge,
  type RecipeMethod,
  recipeMethods,
} from './merge-checkpoints.ts'
export { parseRecipe, type Recipe } from './recipe/parse.ts'
export { type TaskArithmeticOptions, taskArithmetic } from './task-arithmetic.ts'
export { type TiesOptions, ties } from './ties.ts'
