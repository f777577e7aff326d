import type { Merge, Tensor } from '@weftjs/spec'
import { dispose, rng, tensor, tidy } from '@weftjs/tensor'
import {
  type Checkpoint,
  CheckpointError,
  type Dtype,
  encodeFloats,
  isFloating,
  type TensorSource,
} from '@weftjs/tensor/checkpoint'
import { linear } from './linear.ts'
import { type Parameters, parseRecipe, type Recipe, type Slice, type Source } from './recipe/parse.ts'
import { type Place, type Scalar, show, valueAt } from './recipe/value.ts'
import { taskArithmetic } from './task-arithmetic.ts'
import { ties } from './ties.ts'

/** Values of a recipe's parameters at one tensor: of the merge as a whole, and of each model. */
export interface At {
  one(key: string): Scalar | undefined
  each(key: string): readonly (Scalar | undefined)[]
}
/** How a recipe's method comes to a `Merge`. `weight`, which each model has, is not among its parameters. */
export interface RecipeMethod {
  readonly parameters: Parameters
  /** it merges changes: `base_model` is needed, and is no model of its own */
  readonly base: boolean
  make(at: At): Merge
}

const numberOr = (value: Scalar | undefined, fallback: number): number => (value as number | undefined) ?? fallback
const flagOr = (value: Scalar | undefined, fallback: boolean): boolean => (value as boolean | undefined) ?? fallback

/** the methods of a recipe, by mergekit's names */
export const recipeMethods: Readonly<Record<string, RecipeMethod>> = {
  linear: {
    parameters: { normalize: 'boolean' },
    base: false,
    make: ({ one }) => linear({ normalize: flagOr(one('normalize'), true) }),
  },
  task_arithmetic: {
    parameters: { lambda: 'number', normalize: 'boolean' },
    base: true,
    make: ({ one }) =>
      taskArithmetic({ lambda: numberOr(one('lambda'), 1), normalize: flagOr(one('normalize'), false) }),
  },
  ties: {
    parameters: { density: 'number', lambda: 'number', normalize: 'boolean' },
    base: true,
    make: ({ one, each }) =>
      ties({
        density: each('density').map((d) => numberOr(d, 1)),
        lambda: numberOr(one('lambda'), 1),
        normalize: flagOr(one('normalize'), true),
      }),
  },
}

export interface MergeOptions {
  /** more methods than mergekit's that are here */
  readonly methods?: Readonly<Record<string, RecipeMethod>>
  /** of methods that draw */
  readonly seed?: number
  readonly onProgress?: (done: { readonly name: string; readonly tensors: number; readonly of: number }) => void
}

/** What a recipe comes to, before a single tensor is read. */
export interface MergePlan {
  readonly recipe: Recipe
  /** each is read, merged and encoded when its bytes are asked for */
  readonly tensors: readonly TensorSource[]
  /** the model whose config.json the result has */
  readonly config: string
  /** and whose tokenizer */
  readonly tokenizer: string
  /** number of layers where the recipe has slices: goes into the config */
  readonly layers?: number
  close(): Promise<void>
}

const LAYER = /^(.*?\b(?:layers|layer|h|blocks|block)\.)(\d+)(\..*)$/
/** outside the layers, what is read first belongs to the first slice, the rest to the last */
const FIRST = /embed|\bwte\b|\bwpe\b/

/** one tensor of the result and where it comes from */
interface Job {
  readonly name: string
  readonly place: Place
  readonly slice: Slice
  /** its name in a source; sources of a slice may start at different layers */
  readonly from: (source: Source) => string
}

const jobsOf = ({ slices }: Recipe, names: readonly string[]): Job[] => {
  const layerOf = (name: string): number => Number(LAYER.exec(name)?.[2] ?? -1)
  const inLayers = names.filter((n) => layerOf(n) >= 0)
  const outside = names.filter((n) => layerOf(n) < 0)
  const depth = (i: number, of: number): number => (of > 1 ? i / (of - 1) : 1)
  const jobs: Job[] = []
  const sliced = slices[0]!.sources[0]!.layers !== undefined
  for (const name of outside) {
    const slice = FIRST.test(name) ? slices[0]! : slices.at(-1)!
    jobs.push({ name, place: { name, depth: 0 }, slice, from: () => name })
  }
  if (!sliced) {
    const of = Math.max(-1, ...inLayers.map(layerOf)) + 1
    for (const name of inLayers)
      jobs.push({ name, place: { name, depth: depth(layerOf(name), of) }, slice: slices[0]!, from: () => name })
    return jobs
  }
  // all layers of a model have the same tensors: those of its first stand for any
  const least = Math.min(...inLayers.map(layerOf))
  const patterns = inLayers.filter((n) => layerOf(n) === least)
  const at = (pattern: string, layer: number): string => pattern.replace(LAYER, (_, a, __, b) => `${a}${layer}${b}`)
  let next = 0
  for (const slice of slices) {
    const [from, to] = slice.sources[0]!.layers!
    for (let i = 0; i < to - from; i++, next++)
      for (const pattern of patterns) {
        const name = at(pattern, next)
        jobs.push({
          name,
          place: { name, depth: depth(i, to - from) },
          slice,
          from: ({ layers }) => at(pattern, layers![0] + i),
        })
      }
  }
  return jobs
}

/**
 * Reads a recipe (mergekit's YAML, parsed) and the headers of its models, and checks that all fits together: nothing
 * is merged before its turn to be written. `open` is given a model as the recipe names it.
 * @throws Error with the path of a wrong field; CheckpointError that names the tensor and the models which differ
 */
export const planMerge = async (
  config: unknown,
  open: (model: string) => Promise<Checkpoint>,
  { methods: more, seed = 0, onProgress }: MergeOptions = {},
): Promise<MergePlan> => {
  const methods = { ...recipeMethods, ...more }
  const recipe = parseRecipe(
    config,
    Object.fromEntries(Object.entries(methods).map(([n, m]) => [n, { weight: 'number' as const, ...m.parameters }])),
  )
  const method = methods[recipe.method]!
  const base = method.base ? recipe.base : undefined
  if (method.base && !base)
    throw new Error(`base_model: is needed by ${recipe.method}, which merges changes to it; name the common ancestor`)
  const modelsOf = (slice: Slice): Source[] => slice.sources.filter(({ model }) => model !== base)
  const first = recipe.base ?? recipe.slices[0]!.sources[0]!.model
  const used = [...new Set([...(base ? [base] : []), ...recipe.slices.flatMap((s) => s.sources.map((m) => m.model))])]
  const opened = new Map<string, Checkpoint>()
  const close = async (): Promise<void> => {
    for (const checkpoint of opened.values()) await checkpoint.close()
  }
  try {
    for (const model of used) opened.set(model, await open(model))
    const names = [...new Set(used.flatMap((m) => [...opened.get(m)!.names]))]
    const jobs = jobsOf(recipe, names)
    const sliced = recipe.slices[0]!.sources[0]!.layers !== undefined
    let done = 0
    const tensors = jobs.map((job): TensorSource => {
      const { slice, place, name } = job
      const sources = modelsOf(slice)
      // a recipe by slices has the base's layers where its first source has them
      const baseName = job.from(slice.sources.find(({ model }) => model === base) ?? slice.sources[0]!)
      const places = [
        ...(base ? [{ model: base, checkpoint: opened.get(base)!, name: baseName }] : []),
        ...sources.map((s) => ({ model: s.model, checkpoint: opened.get(s.model)!, name: job.from(s) })),
      ]
      const { shape, dtype } = agreement(places)
      const value = (key: string, source?: Source): Scalar | undefined =>
        valueAt(source?.parameters[key], place) ??
        valueAt(slice.parameters[key], place) ??
        valueAt(recipe.parameters[key], place)
      const weights = sources.map((s) => {
        const weight = value('weight', s)
        if (weight === undefined)
          throw new Error(`${s.path}.parameters.weight: is needed by ${recipe.method}, and missing at ${name}`)
        return weight as number
      })
      const to = isFloating(dtype) ? (recipe.dtype ?? dtype) : dtype
      const merge = method.make({ one: (key) => value(key), each: (key) => sources.map((s) => value(key, s)) })
      return {
        name,
        dtype: to,
        shape,
        data: async () => {
          const bytes = isFloating(dtype)
            ? await merged(places, (all) =>
                merge(base ? all.slice(1) : all, {
                  name,
                  weights,
                  rng: rng(seed).fork(name),
                  ...(base && { base: all[0]! }),
                }),
              ).then((values) => encodeFloats(to, values, { tensor: name }))
            : (await places[0]!.checkpoint.read(places[0]!.name)).data
          onProgress?.({ name, tensors: ++done, of: jobs.length })
          return bytes
        },
      }
    })
    const layers = recipe.slices.reduce((n, { sources: [s] }) => n + (s!.layers ? s!.layers[1] - s!.layers[0] : 0), 0)
    return {
      recipe,
      tensors,
      config: first,
      tokenizer: recipe.tokenizer ?? first,
      ...(sliced && { layers }),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

interface Found {
  readonly model: string
  readonly checkpoint: Checkpoint
  readonly name: string
}

/** the one shape that all models have, and the dtype of the first */
const agreement = (places: readonly Found[]): { shape: readonly number[]; dtype: Dtype } => {
  const without = places.filter((p) => !p.checkpoint.has(p.name))
  if (without.length)
    throw new CheckpointError(
      `is in ${
        places
          .filter((p) => !without.includes(p))
          .map((p) => p.model)
          .join(', ') || 'none'
      } and not in ${without.map((p) => p.model).join(', ')}; merge models of one architecture and depth`,
      { tensor: without[0]!.name },
    )
  const entries = places.map((p) => p.checkpoint.entry(p.name))
  const { shape, dtype } = entries[0]!
  if (entries.some((e) => e.shape.join() !== shape.join() || isFloating(e.dtype) !== isFloating(dtype)))
    throw new CheckpointError(
      `differs between the models: ${places.map((p, i) => `${p.model} ${entries[i]!.dtype} ${show(entries[i]!.shape)}`).join(', ')}; merge models of one architecture and vocabulary`,
      { tensor: places[0]!.name },
    )
  return { shape, dtype }
}

/** reads one tensor of every model, merges, and leaves nothing behind */
const merged = async (
  places: readonly Found[],
  merge: (tensors: readonly Tensor[]) => Tensor,
): Promise<Float32Array> => {
  const inputs: Tensor[] = []
  try {
    for (const { checkpoint, name } of places)
      inputs.push(tensor(await checkpoint.floats(name), checkpoint.entry(name).shape as number[], 'float32'))
    const out = tidy(() => merge(inputs))
    try {
      return await out.data<'float32'>()
    } finally {
      out.dispose()
    }
  } finally {
    dispose(inputs)
  }
}

/**
 * Merges by a mergekit recipe, one tensor at a time: `write` is given the plan and asks each tensor for its bytes, so
 * that no more than one tensor of each model is held. Arithmetic is float32 on the current backend, whatever `dtype`
 * says; `out_dtype`, else `dtype`, else the first model's, is what is written.
 * @returns what `write` returns
 */
export const mergeCheckpoints = async <T>(
  config: unknown,
  open: (model: string) => Promise<Checkpoint>,
  write: (plan: MergePlan) => Promise<T>,
  options: MergeOptions = {},
): Promise<T> => {
  const plan = await planMerge(config, open, options)
  try {
    return await write(plan)
  } finally {
    await plan.close()
  }
}
