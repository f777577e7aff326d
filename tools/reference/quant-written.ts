/**
 * Checkpoints in the layouts of other tools, for quant_check_written.py to open with those tools, each with the logits that we
 * get from it once it is read again:
 * node --import tsx --conditions=@weftjs/source tools/reference/quant-written.ts OUT [NAME...]
 * or, for folders that are there already (`weft quantize mini OUT/nf4 --codec nf4`), the logits alone:
 * node --import tsx --conditions=@weftjs/source tools/reference/quant-written.ts --logits FOLDER...
 * A folder with an adapter in `adapter/` has the logits with it: `pissa-nf4` and `pissa-nf4-double` are what `onOwnBase`
 * makes of QPiSSA, and so is `OUT/residual` of a run of `pissa` on `base: { codec: nf4 }`.
 */
import { access, mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fromPeft, loadPeft, onOwnBase, pissa, readPeftConfig, readyLora, savePeft } from '@weftjs/lora'
import { attach, loadNetwork, namesOf, seeing, sitesOf } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import {
  aqlm,
  awq,
  fp4,
  fp8,
  fromPacked,
  type GptqOptions,
  gptq,
  type HqqOptions,
  hqq,
  int8,
  nf4,
  packedWriter,
  quantize,
} from '@weftjs/quant'
import type { Codec } from '@weftjs/spec'
import { add, rng, tensor, wasm } from '@weftjs/tensor'
import { toSafetensors } from '@weftjs/tensor/checkpoint'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { tinyLlama } from '@weftjs/testkit'
import { batches } from './batches.ts'

const gptqOf = (options: GptqOptions): Codec<any> => gptq({ group: 32, ...options })
const hqqOf = (options: HqqOptions): Codec<any> => hqq({ group: 32, ...options })
/** name: codec, and which matrices */
const WRITTEN: Readonly<Record<string, readonly [codec: Codec<any>, at?: string]>> = {
  nf4: [nf4()],
  'nf4-some': [nf4({ double: true, block: 128 }), 'blocks.*.attn.{q,v}'],
  'nf4-double': [nf4({ double: true })],
  fp4: [fp4()],
  int8: [int8()],
  'int8-some': [int8(), 'blocks.0.**'],
  'gptq-4': [gptqOf({})],
  'gptq-4-zeros': [gptqOf({ symmetric: false })],
  'gptq-8': [gptqOf({ bits: 8 })],
  'gptq-3': [gptqOf({ bits: 3, symmetric: false })],
  'gptq-2': [gptqOf({ bits: 2, symmetric: false, group: -1 })],
  'gptq-some': [gptqOf({}), 'blocks.*.mlp.{gate,up}'],
  awq: [awq({ group: 32 })],
  'awq-64': [awq({ group: 64 })],
  'awq-some': [awq({ group: 32 }), 'blocks.1.**'],
  'hqq-8': [hqqOf({ bits: 8 })],
  'hqq-4': [hqqOf({ bits: 4 })],
  'hqq-3': [hqqOf({ bits: 3 })],
  'hqq-2': [hqqOf({ bits: 2, group: 16 })],
  'hqq-1': [hqqOf({ bits: 1, group: 16 })],
  'hqq-columns': [hqqOf({ bits: 4, axis: 0 })],
  'hqq-bfloat16': [hqqOf({ bits: 4, dtype: 'BF16' })],
  'hqq-some': [hqqOf({ bits: 4 }), 'blocks.*.attn.*'],
  'fp8-row': [fp8()],
  'fp8-tensor': [fp8({ per: 'tensor' })],
  'fp8-some': [fp8(), 'blocks.*.mlp.*'],
  'fp8-tiles': [fp8({ per: 'block', tile: [32, 32] })],
  'aqlm-2x8': [aqlm({ codebooks: 2, bits: 8, group: 8, rounds: 1 })],
  'aqlm-1x10': [aqlm({ codebooks: 1, bits: 10, group: 8, rounds: 1 })],
  'aqlm-some': [aqlm({ codebooks: 1, bits: 8, group: 8, rounds: 1 }), 'blocks.*.mlp.down'],
}
/** bases that QPiSSA made, with an adapter */
const OWN: Readonly<Record<string, Codec<any>>> = { 'pissa-nf4': nf4(), 'pissa-nf4-double': nf4({ double: true }) }
const LINEAR = 'blocks.*.{attn.{q,k,v,o},mlp.{gate,up,down}}'
/** sides of 128, as kernels of GPTQ and AWQ ask for */
const SIZES = { vocabulary: 64, width: 128, heads: 4, kvHeads: 2, hidden: 256, maxLength: 64 }

/** the network of a folder, with the adapter in it where there is one */
const opened = async (folder: string) => {
  const network = await loadNetwork(nodeFolder(folder), { packed: fromPacked })
  const adapter = nodeFolder(join(folder, 'adapter'))
  if (!(await adapter.has('adapter_config.json'))) return { network, tuned: attach(network, [], rng(0)), params: {} }
  const start = fromPeft(await readPeftConfig(adapter), network, sitesOf(network))
  const tuned = attach(start.network, start.attachments, rng(0), start.options)
  return { network, tuned, params: (await loadPeft(adapter, tuned)).params }
}

const writeLogits = async (folder: string): Promise<void> => {
  const { network, tuned, params } = await opened(folder)
  const { vocabulary, maxLength } = network.config
  const [B, T] = [2, Math.min(16, maxLength)]
  const ids = Int32Array.from(rng(5).numbers(B * T), (u) => 4 + Math.floor(u * (vocabulary - 4)))
  const logits = (await tuned.forward(params, { ids: tensor(ids, [B, T], 'int32') }).logits.data()) as Float32Array
  const packed = Object.values(network.weights).filter((w) => w.codec)
  await writeFile(
    join(folder, 'reference.safetensors'),
    toSafetensors({
      input_ids: { dtype: 'I32', shape: [B, T], data: new Uint8Array(ids.buffer) },
      logits: { dtype: 'F32', shape: [B, T, vocabulary], data: new Uint8Array(Float32Array.from(logits).buffer) },
    }),
  )
  console.log(`${basename(folder)}: ${packed.length} matrices in ${[...new Set(packed.map((w) => w.format))]}`)
}

/** A base of QPiSSA's own and its LoRA, moved as training would. */
const writeOwnBase = async (folder: string, codec: Codec<any>): Promise<void> => {
  const network = await quantize(tinyLlama(rng(3), SIZES), codec, { at: 'blocks.**' })
  const tuned = attach(network, [{ adapter: pissa({ rank: 4, rounds: 3 }), at: LINEAR }], rng(4))
  const moved = Object.entries(tuned.params).map(([name, t]) => [name, add(t, rng(6).fork(name).normal(t.shape, 0.02))])
  const own = await onOwnBase(tuned, { params: Object.fromEntries(moved) })
  await mkdir(join(folder, 'adapter'), { recursive: true })
  const packed = (await packedWriter(own.network, namesOf(own.network.config)))!
  await save(own.network, folder, { packed })
  const lora = attach(own.network, [readyLora(own.deltas)], rng(0))
  await savePeft((file) => fileSink(join(folder, 'adapter', file)), lora, lora.params, { base: folder })
  await writeLogits(folder)
}

const write = async (folder: string, codec: Codec<any>, at = 'blocks.**'): Promise<void> => {
  const whole = tinyLlama(rng(3), { ...SIZES, tied: folder.length % 2 === 0 })
  const see = codec.calibrates && seeing(batches(SIZES.vocabulary))
  const network = await quantize(whole, codec, { at, ...(see && { see }) })
  await mkdir(folder, { recursive: true })
  const packed = (await packedWriter(network, namesOf(network.config)))!
  await save(network, folder, { packed })
  await writeLogits(folder)
}

await wasm()
const [out, ...names] = process.argv.slice(2)
if (out === undefined) throw new Error('quant-written.ts: name a folder to write to')
if (out === '--logits') for (const folder of names) await writeLogits(folder)
else
  for (const name of names.length ? names : [...Object.keys(WRITTEN), ...Object.keys(OWN)]) {
    const folder = join(out, name)
    const there = await access(join(folder, 'config.json')).then(
      () => true,
      () => false,
    )
    if (there) throw new Error(`${folder}: there is a checkpoint already; name another folder`)
    if (Object.hasOwn(OWN, name)) {
      await writeOwnBase(folder, OWN[name]!)
      continue
    }
    const [codec, at] = WRITTEN[name]!
    await write(folder, codec, at)
  }
