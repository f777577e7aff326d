import { activation } from './activation.ts'
import { arithmetic } from './arithmetic.ts'
import { reduction } from './reduction.ts'
import { shape } from './shape.ts'

export { rule, unbroadcast } from './rule.ts'

let done = false
/**
 * Fills tfjs-core's global table of gradients, once. A call, not a side effect of an import: bundlers drop such imports
 * from packages that are free of side effects, and a bundle that never trains needs none of it. See docs/decisions/gradients.md.
 */
export const registerGradients = (): void => {
  if (done) return
  done = true
  for (const register of [activation, arithmetic, reduction, shape]) register()
}
