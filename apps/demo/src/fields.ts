/** Settings as data: the page draws them, the worker reads their values. */

interface Common<T> {
  readonly name: string
  readonly label: string
  /** one sentence, shown below */
  readonly help?: string
  readonly value: T
  /** stands in the folded part */
  readonly more?: boolean
  /** takes a line of its own */
  readonly wide?: boolean
}
export interface NumberField extends Common<number> {
  readonly kind: 'number'
  readonly min: number
  readonly max: number
  /** whole numbers by default */
  readonly step?: number | 'any'
}
export interface SelectField extends Common<string> {
  readonly kind: 'select'
  readonly options: Readonly<Record<string, string>>
}
export interface CheckField extends Common<boolean> {
  readonly kind: 'check'
}
export type Field = NumberField | SelectField | CheckField

/** the values of fields, by name */
export type Values<F extends readonly Field[]> = {
  -readonly [K in F[number] as K['name']]: K extends NumberField ? number : K extends CheckField ? boolean : string
}

/** What the page shows of a method: a file of `methods/` exports this as `about`, and `make` for the worker. */
export interface About<F extends readonly Field[] = readonly Field[]> {
  readonly title: string
  readonly summary: string
  readonly fields: F
}

/** of several methods */
export const rank = {
  kind: 'number',
  name: 'rank',
  label: 'Rank',
  value: 8,
  min: 1,
  max: 4096,
  help: 'more numbers to train, more to remember',
} as const satisfies Field
export const alpha = {
  kind: 'number',
  name: 'alpha',
  label: 'Alpha',
  value: 16,
  min: 0,
  max: 4096,
  step: 'any',
  help: 'strength',
} as const satisfies Field
export const dropout = {
  kind: 'number',
  name: 'dropout',
  label: 'Dropout',
  value: 0,
  min: 0,
  max: 0.9,
  step: 'any',
  more: true,
  help: 'share of the inputs left out at random',
} as const satisfies Field

/** of every training, whatever the method */
export const training = [
  { kind: 'number', name: 'steps', label: 'Steps', value: 120, min: 1, max: 100_000 },
  { kind: 'number', name: 'batch', label: 'Batch', value: 4, min: 1, max: 256, help: 'pieces of text in each step' },
  { kind: 'number', name: 'length', label: 'Length', value: 128, min: 2, max: 8192, help: 'tokens in each piece' },
  {
    kind: 'number',
    name: 'lr',
    label: 'Learning rate',
    value: 0.004,
    min: 0,
    max: 1,
    step: 'any',
  },
  {
    kind: 'select',
    name: 'schedule',
    label: 'Schedule',
    value: 'cosine',
    options: { cosine: 'cosine, to zero', linear: 'linear, to zero', constant: 'constant' },
    more: true,
  },
  {
    kind: 'number',
    name: 'warmup',
    label: 'Warm-up',
    value: 5,
    min: 0,
    max: 100_000,
    help: 'steps over which the learning rate rises',
    more: true,
  },
  {
    kind: 'number',
    name: 'seed',
    label: 'Seed',
    value: 0,
    min: 0,
    max: 2 ** 32 - 1,
    help: 'the same seed gives the same training',
    more: true,
  },
  {
    kind: 'select',
    name: 'base',
    label: 'Frozen weights',
    value: 'float32',
    // the formats that fit the model come with it
    options: { float32: 'as they are' },
    help: 'bits of a weight in the blocks, scales included, and what the model takes; the adapter trains in 32 bits',
    ...{ more: true, wide: true },
  },
] as const satisfies readonly Field[]

export type Training = Values<typeof training>

/** of the two answers */
export const writing = [
  {
    kind: 'number',
    name: 'temperature',
    label: 'Temperature',
    value: 0.7,
    min: 0,
    max: 5,
    step: 'any',
    help: '0: always the likeliest',
  },
  { kind: 'number', name: 'tokens', label: 'Tokens', value: 120, min: 1, max: 4096, help: 'at most' },
  { kind: 'number', name: 'seed', label: 'Seed', value: 0, min: 0, max: 2 ** 32 - 1, help: 'the same for both' },
] as const satisfies readonly Field[]
