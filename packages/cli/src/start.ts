import { join } from 'node:path'
import { asPlainLora, type Delta, onOwnBase, readyLora, savePeft } from '@weftjs/lora'
import { attach, type TransformerConfig, type Tuned } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import type { Network, Params } from '@weftjs/spec'
import { rng, selectParams } from '@weftjs/tensor'
import type { Folder, Sink } from '@weftjs/tensor/checkpoint'
import { packedWriter } from './pack.ts'
import { warn } from './terminal.ts'

/** the folder, within that of an adapter, of the model that it trained on; and the folder of its adapter in there */
const OWN = 'residual'
const ADAPTER = 'adapter'

type Sinks = (file: string) => Promise<Sink>

interface Saved {
  /** the model that the run names */
  readonly base: string
  /** it as it lies on disk */
  readonly model: Folder
  /** the adapter's */
  readonly folder: string
  /** what the adapter began with, by the names of its tensors */
  readonly start: Params
  /** opens a file of the folder */
  readonly sink: Sinks
}

const saveLora = async (
  network: Network<TransformerConfig>,
  deltas: readonly Delta[],
  sink: Sinks,
  { base, whole = {} }: { base: string; whole?: Params },
): Promise<void> => {
  const train = Object.keys(whole)
  const plain = attach(network, [readyLora(deltas)], rng(0), train.length ? { train } : {})
  await savePeft(sink, plain, { ...plain.params, ...whole }, { base })
}

/**
 * What began from a base of its own, which no PEFT file holds, as a plain LoRA for the model as it is. Where that base was
 * packed anew it differs from what was trained by the rounding, so that a model of it is written as well, with its adapter.
 * @returns the files of that model
 */
export const saveStart = async (
  tuned: Tuned,
  params: Params,
  { base, model, folder, start, sink }: Saved,
): Promise<readonly string[]> => {
  const { network } = tuned
  const method = tuned.bound.find((b) => b.base)!.adapter.name
  const rounded = tuned.bound.some((b) => b.base && b.site.weight?.codec)
  const whole = selectParams(params, (n) => n in network.weights || n in network.vectors)
  let most = 0
  const deltas = await asPlainLora(
    { ...tuned, params: { ...params, ...start } },
    { params, inexact: rounded, left: (_, share) => (most = Math.max(most, share)) },
  )
  await saveLora(network, deltas, sink, { base, whole })
  if (!rounded) {
    warn(`${folder}: saved as a plain LoRA for ${base}, since '${method}' began from a base of its own`)
    return []
  }
  const own = await onOwnBase(tuned, { params })
  const inside = join(folder, OWN)
  const files = await save(own.network, inside, { from: model, ...(await packedWriter(own.network)) })
  await saveLora(own.network, own.deltas, (file) => sink(join(OWN, ADAPTER, file)), { base: inside })
  warn(
    `${inside}: what was trained, exactly: the base that '${method}' began from, packed anew, and its LoRA in ${ADAPTER}/ (--adapter ${join(inside, ADAPTER)}). ${folder} holds it as a plain LoRA for ${base}, without the rounding of that base: up to ${(100 * most).toPrecision(2)} % of a matrix`,
  )
  return files.map((file) => join(OWN, file))
}
