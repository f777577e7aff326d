import type { Batch, Params, Site, Statistic } from '@weftjs/spec'
import { keep, tensor, tidy } from '@weftjs/tensor'
import {
  type ByteSource,
  CheckpointError,
  encodeFloats,
  openSafetensors,
  type Sink,
  type TensorSource,
  writeSafetensors,
} from '@weftjs/tensor/checkpoint'
import type { Tuned } from './attach.ts'
import { type Calibrated, seenOf } from './seen.ts'

/** Where a calibration is kept between two runs. */
export interface CalibrationCache {
  /** the file as it is, or undefined where there is none */
  open(): Promise<ByteSource | undefined>
  /** a new file, visible once it is complete */
  sink(): Promise<Sink>
}

interface Asked {
  readonly tuned: Tuned
  readonly params: Params
  readonly sites: readonly Site[]
  readonly statistics: readonly Statistic[]
  readonly batches: AsyncIterable<Batch> | Iterable<Batch>
  readonly signal: AbortSignal | undefined
}
type Found = Record<string, Calibrated>
/** per site: rows, and the site under whose name each statistic is kept */
type Index = Record<string, { rows: number; from: Partial<Record<Statistic, string>> }>

/**
 * What the cache has, where it is of this model, data and question; else what `pass` gathers, which is then kept.
 * @throws CheckpointError where the cache is of something else: it is never written over
 */
export const cached = async (
  cache: CalibrationCache,
  { tuned, params, sites, statistics, batches, signal }: Asked,
  pass: (batches: readonly Batch[]) => Promise<Found>,
): Promise<Found> => {
  const data: Batch[] = []
  for await (const batch of batches) data.push(batch) // token ids only
  signal?.throwIfAborted()
  const key = {
    model: await modelHash(tuned, params),
    data: hash(
      data.flatMap(({ shape, ids, targets, positions, segments }) => [
        Int32Array.from(shape),
        ids,
        targets,
        positions,
        segments,
      ]),
    ),
    asked: JSON.stringify([[...statistics].sort(), sites.map((s) => s.name)]),
  }
  const source = await cache.open()
  if (source) return read(source, key)
  const found = await pass(data)
  await write(await cache.sink(), found, key)
  return found
}

const FORMAT = 'weft-calibration-1'
const WHAT = {
  format: 'is no calibration',
  model: 'is of another model',
  data: 'is of other data',
  asked: 'has other statistics or sites',
}

const read = async (source: ByteSource, key: Readonly<Record<string, string>>): Promise<Found> => {
  const file = await openSafetensors(source)
  try {
    const want: Readonly<Record<string, string>> = { format: FORMAT, ...key }
    for (const [field, says] of Object.entries(WHAT))
      if (file.metadata[field] !== want[field])
        throw new CheckpointError(`${says}; delete it, or name another file for this calibration`, { file: file.name })
    const index = JSON.parse(file.metadata['sites']!) as Index
    const batches = Number(file.metadata['batches'])
    const values = new Map<string, Float32Array>()
    for (const name of file.names) values.set(name, await file.floats(name))
    const tensors = new Map([...values].map(([n, v]) => [n, tidy(() => keep(tensor(v, [...file.entry(n).shape])))]))
    return Object.fromEntries(
      Object.entries(index).map(([site, { rows, from }]) => {
        const own = Object.entries(from).map(([s, first]) => [s, tensors.get(`${first}.${s}`)!])
        return [site, seenOf(site, rows, batches, Object.fromEntries(own))]
      }),
    )
  } finally {
    await file.close()
  }
}

const write = async (sink: Sink, found: Found, key: Readonly<Record<string, string>>): Promise<void> => {
  const first = new Map<number, string>()
  const sources: TensorSource[] = []
  const index: Index = {}
  for (const [site, { rows, tensors }] of Object.entries(found)) {
    const from: Partial<Record<Statistic, string>> = {}
    for (const [s, t] of Object.entries(tensors) as [Statistic, (typeof tensors)['mean'] & object][]) {
      if (!first.has(t.id)) {
        first.set(t.id, site)
        const data = async (): Promise<Uint8Array> => encodeFloats('F32', (await t.data()) as Float32Array)
        sources.push({ name: `${site}.${s}`, dtype: 'F32', shape: t.shape, data })
      }
      from[s] = first.get(t.id)!
    }
    index[site] = { rows, from }
  }
  const batches = String(Object.values(found)[0]?.batches ?? 0)
  await writeSafetensors(sink, sources, { format: FORMAT, ...key, batches, sites: JSON.stringify(index) })
}

const modelHash = async ({ network, constants, bound }: Tuned, params: Params): Promise<string> => {
  const parts: string[] = [JSON.stringify(network.config), bound.map((b) => b.prefix).join()]
  const add = async (tensors: Params): Promise<void> => {
    for (const [name, t] of Object.entries(tensors)) {
      const d = await t.data()
      const bytes = d.byteLength % 4 ? Int32Array.from(d) : new Int32Array(d.buffer, d.byteOffset, d.byteLength / 4)
      parts.push(name, t.shape.join(), hash([bytes]))
    }
  }
  for (const [name, w] of Object.entries(network.weights)) {
    parts.push(name, w.format ?? '')
    await add(w.parts)
  }
  for (const tensors of [network.vectors, params, constants]) await add(tensors)
  for (const { base } of bound) if (base) await add(base.parts)
  return hash([Int32Array.from(parts.join('\n'), (c) => c.charCodeAt(0))])
}

/** 64 bits, two lanes of multiply and mix: tells files apart, and is no defence against malice */
const hash = (pieces: readonly Int32Array[]): string => {
  let [a, b] = [0x9747b28c, 0x3c6ef372]
  for (const piece of pieces) {
    a = Math.imul(a ^ piece.length, 0x85ebca6b)
    for (let i = 0; i < piece.length; i++) {
      const v = piece[i]!
      a = Math.imul((a << 13) | (a >>> 19), 5) ^ Math.imul(v, 0xcc9e2d51)
      b = Math.imul(b ^ v ^ (b >>> 15), 0xc2b2ae35)
    }
  }
  return [a, b].map((n) => (n >>> 0).toString(16).padStart(8, '0')).join('')
}
