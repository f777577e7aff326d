import { mkdir, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import {
  calibrate,
  checkpointOf,
  disposeSeen,
  type ModelTokenizer,
  namesOf,
  type TransformerConfig,
} from '@weftjs/model'
import { save } from '@weftjs/model/node'
import {
  checkpointSources,
  type GgufImportance,
  ggufImportance,
  ggufPacked,
  readImatrix,
  saveGguf,
  tokenizerFiles,
} from '@weftjs/quant'
import type { Batch, Config } from '@weftjs/spec'
import { bytesOf, rng } from '@weftjs/tensor'
import { type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { fileSink, fromFile } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import { mixOf } from '../codecs.ts'
import type { Call } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import { feed } from '../feed.ts'
import { openFolder, openNetwork, openTokenizer, weigh } from '../models.ts'
import { guardOut } from '../out.ts'
import {
  disposeOnly,
  layoutIn,
  mustHaveData,
  type Opened,
  openFor,
  type Packed,
  packedWriter,
  passThrough,
  planOf,
} from '../pack.ts'
import type { Plan } from '../plan.ts'
import { counted, print, printJson, size, status, statusDone, warn } from '../terminal.ts'

/** rows of a text file that a calibration pass looks at */
const BATCHES = 32
const LENGTH = 512

/** the first rows of a file, as the model would read them */
const textsOf = async (
  path: string,
  config: TransformerConfig,
  tokenizer: ModelTokenizer,
  batches: number,
): Promise<readonly Batch[]> => {
  const length = Math.min(LENGTH, config.maxLength)
  const field = '--calibrate'
  const data = await feed(
    { find: async (p) => p },
    { path, format: 'text' } as never,
    { length, batch: 1 },
    { tokenizer, config, rng: rng(0), field },
  )
  try {
    const found: Batch[] = []
    for await (const batch of data.batches({})) {
      found.push(batch)
      if (found.length === batches) break
    }
    return found
  } catch (error) {
    const { message } = error as Error
    throw new Failure(`${field}: ${message.includes(path) ? '' : `${path}: `}${message}`)
  } finally {
    await data.close()
  }
}

/** what the columns of matrices are worth to texts, by a pass of the whole model before any of it is packed */
const importanceOf = async (folder: Folder, config: Config, texts: string, count: number): Promise<GgufImportance> => {
  const network = await openNetwork(folder)
  const rows = await textsOf(texts, network.config, (await openTokenizer(folder, network))!, count)
  const seen = await calibrate(network, rows, {
    statistics: ['square'],
    onProgress: ({ batches, of = 1 }) => status(`${counted(batches, of)}  looking at what matrices read`),
  })
  statusDone()
  const found = await ggufImportance(seen, namesOf(network.config), config)
  disposeSeen(seen)
  disposeOnly(network)
  return found
}

interface Look {
  readonly texts: string | undefined
  readonly batches: number
  readonly imatrix: string | undefined
}
/** one file that llama.cpp runs; a dense model goes from file to file a tensor at a time */
const toGguf = async (
  folder: Folder,
  out: string,
  mix: string,
  { texts, batches, imatrix }: Look,
): Promise<{ bytes: number }> => {
  const config = JSON.parse(await folder.text('config.json')) as Config
  if ((texts ?? imatrix) !== undefined && config['quantization_config'])
    throw new Failure(`${folder.name}: is quantized already; importance is for a model of 16 or 32 bits`)
  const importance =
    imatrix !== undefined
      ? await readImatrix(await fromFile(resolve(imatrix)))
      : texts !== undefined
        ? await importanceOf(folder, config, texts, batches)
        : undefined
  const tokenizer = await tokenizerFiles(folder)
  await mkdir(dirname(out), { recursive: true })
  const write = async (tensors: Parameters<typeof saveGguf>[1]['tensors']): Promise<void> =>
    saveGguf(await fileSink(out), {
      ...{ config, tensors, mix },
      ...(tokenizer && { tokenizer }),
      ...(importance && { importance }),
    })
  if (config['quantization_config']) {
    const network = await openNetwork(folder)
    const packed = await ggufPacked(network, namesOf(network.config))
    await write(checkpointOf(network, packed ? { packed } : {}).tensors)
  } else {
    const checkpoint = await openCheckpoint(folder)
    try {
      await write(checkpointSources(checkpoint))
    } finally {
      await checkpoint.close()
    }
  }
  return { bytes: (await stat(out)).size }
}

interface InMemory {
  readonly at: string | undefined
  readonly layout: string | undefined
  readonly batches?: (opened: Opened) => Promise<() => Promise<readonly Batch[]>>
}
/** a plan that has to see the network, or a network that is packed already */
const inMemory = async (
  folder: Folder,
  plan: Plan,
  out: string,
  { at, layout, batches }: InMemory,
): Promise<Packed> => {
  const opened = await openFor(folder, plan, { at })
  const rows = await batches?.(opened)
  const packed = await opened.pack({ ...(rows && { batches: rows }) })
  const values = Object.values(packed.weights).filter((w) => w.codec)
  status('writing')
  const writer = await packedWriter(packed, layout)
  const files = await save(packed, out, { from: folder, ...writer })
  const bits =
    (8 * values.reduce((n, w) => n + bytesOf(w.parts), 0)) / values.reduce((n, w) => n + w.shape[0] * w.shape[1], 0)
  return {
    ...{ matrices: values.length, bits, before: opened.before, after: weigh(packed) },
    ...{ layout: layoutIn(writer.packed), files },
  }
}

export const quantize = async ({ args: [model, out], text, number, flag }: Call): Promise<number> => {
  const codec = text('codec')
  if (codec === undefined) throw usage('quantize needs --codec; weft list quant names them')
  const mix = mixOf(codec, '--codec')
  const target = resolve(out!)
  if (out!.endsWith('.gguf')) {
    if (mix === undefined) throw usage(`a GGUF file has types of its own; take --codec gguf:Q4_K_M, or name a folder`)
    const odd = ['at', 'layout'].find((o) => text(o) !== undefined)
    if (odd)
      throw usage(`--${odd} is for a folder: in a GGUF file ${mix} says what each matrix is kept in; leave it out`)
    await startBackend(text('backend'))
    const folder = await openFolder(model!)
    await guardOut(target, folder)
    const [texts, imatrix] = [text('calibrate'), text('imatrix')]
    if (texts !== undefined && imatrix !== undefined)
      throw usage('--calibrate gathers what --imatrix has; give one of them')
    const batches = number('batches', { min: 1, whole: true }) ?? BATCHES
    const { bytes } = await toGguf(folder, target, mix, { texts, batches, imatrix })
    if (flag('json')) printJson({ out, codec, bytes })
    else print(`${out}: ${size(bytes)} in ${mix}`)
    return 0
  }
  if (text('imatrix') !== undefined) throw usage('--imatrix is for a GGUF file; name one that ends in .gguf')
  const plan = planOf(codec, '--codec')
  // only a format that looks at nothing is a codec by itself
  const path = plan.codec ? undefined : text('calibrate')
  if (plan.codec && text('calibrate') !== undefined)
    warn(`--calibrate: ${plan.name} looks at nothing that the model reads; the file is left alone`)
  mustHaveData(plan, path !== undefined, 'give it texts with --calibrate FILE')
  await startBackend(text('backend'))
  const folder = await openFolder(model!)
  await guardOut(target, folder)
  const began = performance.now()
  const [at, layout] = [text('at'), text('layout')]
  const made =
    (await passThrough(folder, plan, target, { at, layout })) ??
    (await inMemory(folder, plan, target, {
      ...{ at, layout },
      ...(path !== undefined && {
        batches: async ({ network }) => {
          const count = number('batches', { min: 1, whole: true }) ?? BATCHES
          const tokenizer = await openTokenizer(folder, network)
          return () => textsOf(path, network.config, tokenizer, count)
        },
      }),
    }))
  statusDone()
  const seconds = (performance.now() - began) / 1000
  const { matrices, bits, before, after, files } = made
  if (flag('json'))
    printJson({
      ...{ out, codec: plan.name, layout: made.layout, matrices, bits_per_weight: bits },
      ...{ bytes_before: before, bytes_after: after, seconds, files },
    })
  else
    print(
      `${out}: ${matrices} matrices at ${bits.toFixed(3)} bits per weight, in ${made.layout}'s layout; weights ${size(before)} -> ${size(after)}; ${files.join(', ')}`,
    )
  return 0
}
