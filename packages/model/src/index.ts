export { type Architecture, architectureOf, architectures, type Name } from './architectures/index.ts'
export {
  type Attachment,
  type AttachOptions,
  attach,
  type Bound,
  type ForwardOptions,
  type Pass,
  type Tuned,
} from './attach.ts'
export type { Rope, TransformerConfig } from './config.ts'
export { type LoadOptions, loadNetwork } from './load.ts'
export { inputsOf, nextToken } from './loss.ts'
export { type At, match, matcher, matcherOfNames } from './match.ts'
export { sitesOf } from './sites.ts'
export { type Cache, type Hooks, type Inputs, transformer } from './transformer.ts'
