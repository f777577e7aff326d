/** Importing this registers the gradients; they live in tfjs-core's global table. See docs/decisions/gradients.md. */
import './activation.ts'
import './arithmetic.ts'
import './reduction.ts'
import './shape.ts'

export { rule, unbroadcast } from './rule.ts'
