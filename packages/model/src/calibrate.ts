import type { Adapter, Batch, Network, Params, Site, Statistic, Tensor } from '@weftjs/spec'
import {
  abs,
  add,
  clone,
  defineKernel,
  dispose,
  div,
  gradients,
  keep,
  matMul,
  max,
  maximum,
  reshape,
  rng,
  scalar,
  slice,
  square,
  sum,
  tidy,
  untaped,
} from '@weftjs/tensor'
import { type Tuned, tunedOf } from './attach.ts'
import { type Bound, bind } from './bind.ts'
import { type CalibrationCache, cached } from './calibration-file.ts'
import type { TransformerConfig } from './config.ts'
import { inputsOf, nextToken, targetsIn } from './loss.ts'
import { type At, match } from './match.ts'
import { readKey, routesTo, wanted } from './routed.ts'
import { type Calibrated, seenOf } from './seen.ts'

export interface CalibrateOptions {
  /** what to gather: of an adapter, its `calibrates` */
  readonly statistics: readonly Statistic[]
  /** at which matrices; every linear one by default */
  readonly at?: At
  /** values of what trains, where the network is tuned; those it began with by default */
  readonly params?: Params
  /** stops between two batches; the promise is rejected with the signal's reason */
  readonly signal?: AbortSignal
  /** after each batch: how many, their rows with a target, and of how many where that is known */
  readonly onProgress?: (done: { batches: number; rows: number; of?: number }) => void
  /** reads what an earlier pass over the same model and data gathered, or keeps this one's: `calibrationFile(path)` in Node */
  readonly cache?: CalibrationCache
}

/** the part of a statistic that a batch adds, from its rows x [n, in] */
const ofInputs: Readonly<Partial<Record<Statistic, (x: Tensor) => Tensor>>> = {
  mean: (x) => sum(x, 0), // [in]
  moment: (x) => matMul(x, x, true), // [in, in]
  square: (x) => sum(square(x), 0), // [in]
  scaled: (x) => {
    const z = div(x, maximum(max(abs(x)), 1e-30)) // [n, in]
    return matMul(z, z, true) // [in, in]
  },
  magnitude: (x) => sum(abs(x), 0), // [in]
  peak: (x) => max(abs(x), 0), // [in]
}
/** the same from the gradient G [out, in] of the weight */
const ofGradient: Readonly<Partial<Record<Statistic, (g: Tensor) => Tensor>>> = {
  gradient: (g) => g,
  fisher: (g) => square(g),
}

/** y as it is; as its gradient passes, the gradient of the weight that made y from x is shown to `take` and kept by nobody */
const watch = defineKernel<{ y: Tensor; probe: Tensor }, { x: Tensor; take: (g: Tensor) => void }>({
  name: 'WatchWeight',
  plain: ({ y }) => clone(y),
  ahead: ({ y }, { x }) => ({ y: clone(y), saved: { x } }),
  keeps: () => [],
  gradient: ({ dy, saved, attrs }) => {
    const rows = (t: Tensor): Tensor => reshape(t, [-1, t.shape.at(-1)!])
    attrs.take(tidy(() => matMul(rows(dy), rows(saved['x']!), true))) // [out, in]
    return { y: dy, probe: scalar(0) }
  },
})

/** Running sums of one input, or of one site's gradient. */
interface Sums {
  readonly sums: Partial<Record<Statistic, Tensor>>
  rows: number
  /** rows that the device alone has counted */
  more?: Tensor
  /** last batch that was counted */
  batch: number
}

/** sums + what x brings, the old sums being gone */
const accumulate = (into: Sums, statistics: readonly Statistic[], of: typeof ofInputs, x: Tensor): void =>
  void untaped(() => {
    for (const s of statistics) {
      const more = of[s]
      if (!more) continue
      const before = into.sums[s]
      const part = more(x)
      into.sums[s] = keep(before ? (s === 'peak' ? maximum(before, part) : add(before, part)) : clone(part))
      before?.dispose()
    }
    return []
  })

/**
 * Runs batches through a network and gathers statistics of what its matrices read, and of their gradients: the one pass
 * that EVA, CorDA, LoRA-GA, GPTQ and their like start from. It streams: nothing of a batch is kept but running sums, a
 * gradient is added up as soon as the backward pass has made it, and sites that read the same tensor (q, k and v; gate and
 * up) share one. Give the result to `attach` as `seen`.
 * @throws Error where no batch has a target, or a site does not take a matrix of floats
 */
export const calibrate = async (
  model: Tuned | Network<TransformerConfig>,
  batches: AsyncIterable<Batch> | Iterable<Batch>,
  options: CalibrateOptions,
): Promise<Record<string, Calibrated>> => {
  const tuned = 'run' in model ? model : tunedOf(bind(model, [], rng(0)))
  const { statistics, cache, at = ({ kind }: Site) => kind === 'linear', params = tuned.params } = options
  const known = [...Object.keys(ofInputs), ...Object.keys(ofGradient)]
  const odd = statistics.find((s) => !known.includes(s))
  if (odd !== undefined || !statistics.length)
    throw new Error(
      `calibrate: statistics must be some of ${known.join(', ')}, found ${odd === undefined ? 'none' : `'${odd}'`}`,
    )
  const sites = match(tuned.sites, at)
  const none = sites.find((s) => !s.weight || s.kind === 'embed')
  if (none) throw new Error(`${none.name} (${none.kind}): multiplies by no matrix; narrow "at" to linear sites`)
  const pass = (data: typeof batches): ReturnType<typeof gather> => gather(tuned, params, sites, data, options)
  return cache
    ? cached(cache, { tuned, params, sites, statistics, batches, signal: options.signal }, pass)
    : pass(batches)
}

const gather = async (
  tuned: Tuned,
  params: Params,
  sites: readonly Site[],
  batches: AsyncIterable<Batch> | Iterable<Batch>,
  { statistics, signal, onProgress }: CalibrateOptions,
): Promise<Record<string, Calibrated>> => {
  const backward = statistics.some((s) => ofGradient[s])
  const forward = statistics.some((s) => ofInputs[s])
  const inputs = new Map<string, Sums>()
  const slopes = new Map<string, Sums>()
  const all: Sums[] = []
  const sumsOf = (map: Map<string, Sums>, key: string): Sums => {
    let found = map.get(key)
    if (!found) {
      found = { sums: {}, rows: 0, batch: 0 }
      map.set(key, found)
      all.push(found)
    }
    return found
  }
  let [done, counted] = [0, 0]
  let current: Batch | undefined
  /** sums by the tensor that a site reads, within one pass */
  const read = new Map<string, Sums>()
  const routes = routesTo(tuned, sites)
  let probe: Tensor | undefined

  const see = (site: string, x: Tensor): void => {
    const key = readKey(x, site)
    const same = read.get(key)
    if (same && !inputs.has(site)) inputs.set(site, same)
    const own = sumsOf(inputs, site)
    if (own.batch === done + 1) return // another site has read it
    own.batch = done + 1
    read.set(key, own)
    untaped(() => {
      const { rows, more } = wanted(x, current!, routes.of(site))
      if (!rows) return []
      if (more) {
        const before = own.more
        own.more = keep(before ? add(before, more) : clone(more))
        before?.dispose()
      } else own.rows += rows.shape[0]!
      accumulate(own, statistics, ofInputs, rows)
      return []
    })
  }
  const observer: Adapter = {
    name: 'calibrate',
    init: () => ({ state: {} }),
    around: (next, x, _, { site }) => {
      if (forward) see(site.name, x)
      const y = next(x)
      if (!probe) return y
      const own = sumsOf(slopes, site.name)
      return watch({ y, probe }, { x, take: (g) => accumulate(own, statistics, ofGradient, g) })
    },
  }
  const watching = sites.map(
    (site): Bound => ({
      site,
      adapter: observer,
      name: 'calibrate',
      prefix: `${site.name}.calibrate`,
      keys: [],
      base: undefined,
    }),
  )
  // innermost, so that they see what the weight itself reads and gives
  const watched = tunedOf({ ...tuned, bound: [...watching, ...tuned.bound, ...routes.bound] })
  const head = sites.some((s) => s.kind === 'head')
  const of = Array.isArray(batches) ? batches.length : undefined
  try {
    for await (const batch of batches) {
      signal?.throwIfAborted()
      const n = targetsIn(batch)
      if (n) {
        current = batch
        read.clear()
        const last = tidy(() => {
          if (!backward) {
            const { hidden, head: logits } = watched.run(params, inputsOf(batch))
            return slice(reshape(head ? logits(hidden) : hidden, [-1]), [0], [1])
          }
          probe = scalar(0)
          return gradients(() => nextToken(watched.run(params, inputsOf(batch)), batch), [probe]).value
        })
        await last.data() // a device is never more than a batch behind
        last.dispose()
        done++
        counted += n
      }
      onProgress?.({ batches: done, rows: counted, ...(of !== undefined && { of }) })
    }
    signal?.throwIfAborted()
    if (!done)
      throw new Error('calibrate: no batch has a target; give some data, and labels other than -100 where it counts')
    for (const own of all)
      if (own.more) {
        own.rows += (await own.more.data())[0]!
        own.more.dispose()
        delete own.more
        if (own.rows) continue
        dispose(Object.values(own.sums)) // zeros
        for (const s of statistics) delete own.sums[s]
      }
    return results(sites, inputs, slopes, done)
  } catch (error) {
    dispose(all.flatMap((s) => [...Object.values(s.sums), ...(s.more ? [s.more] : [])]))
    throw error
  } finally {
    routes.forget()
  }
}

/** sums → means, one tensor for all sites that share it; the sums are gone */
const results = (
  sites: readonly Site[],
  inputs: ReadonlyMap<string, Sums>,
  slopes: ReadonlyMap<string, Sums>,
  batches: number,
): Record<string, Calibrated> => {
  const means = new Map<Sums, Partial<Record<Statistic, Tensor>>>()
  const meansOf = (sums: Sums | undefined): Partial<Record<Statistic, Tensor>> => {
    if (!sums) return {}
    let found = means.get(sums)
    if (!found) {
      found = {}
      for (const [s, total] of Object.entries(sums.sums) as [Statistic, Tensor][]) {
        const by = s === 'peak' ? 1 : s === 'scaled' || ofGradient[s] ? batches : sums.rows
        found[s] = tidy(() => keep(div(total, by)))
        total.dispose()
      }
      means.set(sums, found)
    }
    return found
  }
  return Object.fromEntries(
    sites.flatMap(({ name }) => {
      const [input, slope] = [inputs.get(name), slopes.get(name)]
      if (!input?.rows && !slope) return [] // no pass came through here
      const tensors = { ...meansOf(input), ...meansOf(slope) }
      return [[name, seenOf(name, input?.rows ?? 0, batches, tensors)]]
    }),
  )
}
