/** What the page asks of the worker, and what comes back: `in` and `out` of each request, and events on the way. */
import type { Training } from './fields.ts'

export type Choice = 'auto' | 'webgpu' | 'wasm' | 'cpu'

export interface Device {
  readonly name: string
  readonly device: string
  /** why not WebGPU, in a sentence, where it was looked for */
  readonly fallback?: string
}
/** a folder that the visitor picked or dropped */
export interface Picked {
  readonly name: string
  readonly files: readonly File[]
}
/** a format that the frozen matrices can be kept in */
export interface Base {
  readonly name: string
  readonly title: string
  /** of each weight, scales included */
  readonly bits: number
  /** of the model in it */
  readonly bytes: number
}
export interface Model {
  readonly name: string
  readonly architecture: string
  readonly parameters: number
  readonly layers: number
  readonly width: number
  readonly vocabulary: number
  /** tokens, the most it takes */
  readonly length: number
  /** of the tensors */
  readonly bytes: number
  /** `attn.q`, `mlp.down`: the matrices of a block */
  readonly parts: readonly string[]
  /** as it is first, then from many bits to few */
  readonly bases: readonly Base[]
}
export interface Adapter {
  readonly title: string
  /** numbers that train */
  readonly parameters: number
  /** places that it changes */
  readonly sites: number
  /** steps trained here */
  readonly steps: number
}
export interface TrainRequest {
  readonly settings: Training
  readonly method: string
  readonly options: Readonly<Record<string, number | string | boolean>>
  /** of `Model.parts` */
  readonly parts: readonly string[]
  /** train the adapter that is there; method, options, parts and base are then its own */
  readonly resume: boolean
  readonly text: { readonly name: string; readonly blob: Blob }
}
export interface StepEvent {
  readonly step: number
  readonly loss: number
  readonly milliseconds: number
  readonly tokens: number
  readonly bytes: number
  readonly peak: number
  readonly parameters: number
}
export interface Trained {
  readonly steps: number
  readonly stopped: boolean
  /** mean loss on text kept apart, in nats a token, where there was enough text to keep some */
  readonly before?: number
  readonly after?: number
  readonly notes: readonly string[]
  readonly adapter: Adapter
}
export interface GenerateRequest {
  readonly prompt: string
  readonly temperature: number
  readonly seed: number
  readonly tokens: number
}

export interface Requests {
  start: { in: Choice; out: Device; event: never }
  load: { in: 'mini' | Picked; out: Model; event: { readonly done: number; readonly of: number } }
  train: { in: TrainRequest; out: Trained; event: StepEvent | { readonly note: string } }
  generate: { in: GenerateRequest; out: undefined; event: { readonly row: 'before' | 'after'; readonly text: string } }
  save: { in: undefined; out: Readonly<Record<string, Blob>>; event: never }
  adapter: { in: readonly File[]; out: Adapter; event: never }
  /** the adapter that is there, after something has gone wrong */
  current: { in: undefined; out: Adapter | undefined; event: never }
}

export type Ask =
  | { readonly id: number; readonly kind: keyof Requests; readonly input: unknown }
  | { readonly stop: number }
export type Answer =
  | { readonly id: number; readonly event: unknown }
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: string }
  /** the worker can do nothing more */
  | { readonly fatal: string }
