import {
  type Attached,
  type Combination,
  combinations,
  combine as combined,
  compress,
  type Delta,
  deltasOf,
  fromPeft,
  loadPeft,
  PEFT_PREFIX,
  PEFT_STEM,
  type PeftConfig,
  readPeftConfig,
  replicationOf,
} from '@weftjs/lora'
import type { Site, Tensor2D, Weight } from '@weftjs/spec'
import { rng, zeros } from '@weftjs/tensor'
import { openCheckpoint } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import { adapterFolder, adapterFolders } from '../models.ts'
import { guardOut } from '../out.ts'
import { standing, told, writeLora } from '../ready.ts'
import { print, printJson } from '../terminal.ts'

/** a frozen matrix that nobody looks into */
const nothing = (out: number, input: number): Weight => ({
  ...{ shape: [out, input], parts: {} },
  apply: (x) => zeros([...x.shape.slice(0, -1), out]),
  dense: () => zeros([out, input]) as Tensor2D,
  like: () => nothing(out, input),
})

/** the modules that a file of LoRAs adapts, as far as its tensors tell */
const sitesIn = async (path: string, config: PeftConfig): Promise<readonly Site[]> => {
  const checkpoint = await openCheckpoint(await adapterFolder(path), { stem: PEFT_STEM })
  try {
    return checkpoint.names.flatMap((key): Site[] => {
      const [, module, embed] = /^(.*)\.lora_(embedding_)?A(?:\.weight)?$/.exec(key) ?? []
      if (module === undefined) return []
      const pair = key.replace(/_A(\.weight)?$/, '_B$1')
      if (!checkpoint.has(pair)) throw new Failure(`${path}: has ${key} and no ${pair}; the file is not whole`)
      const [a, b] = [checkpoint.entry(key).shape, checkpoint.entry(pair).shape] as [number[], number[]]
      const [out, input] = embed ? [a[1]!, b[0]!] : [b[0]!, a[1]!]
      const name = module.startsWith(PEFT_PREFIX) ? module.slice(PEFT_PREFIX.length) : module
      return [
        {
          ...{ name, module: name, kind: embed ? 'embed' : 'linear', layer: -1, in: input, out },
          ...(config.fan_in_fan_out && !embed && { transposed: true }),
          weight: nothing(out, input),
        },
      ]
    })
  } finally {
    await checkpoint.close()
  }
}

const open = async (path: string): Promise<{ deltas: readonly Delta[]; config: PeftConfig }> => {
  const folder = await adapterFolder(path)
  const config = await readPeftConfig(folder)
  const hint = 'only LoRAs are combined by their factors: run weft convert first'
  const sites = await sitesIn(path, config)
  if (!sites.length) throw new Failure(`${path}: holds no LoRA but '${config.peft_type}'; ${hint}`)
  const whole = config.modules_to_save?.length ? `modules_to_save ${config.modules_to_save.join(', ')}` : undefined
  const beside = whole ?? (config.bias && config.bias !== 'none' ? `bias ${config.bias}` : undefined)
  if (beside)
    throw new Failure(`${path}: has trained more than LoRA (${beside}), which cannot be combined; fold it instead`)
  const network = { config: { replicated: replicationOf(config) }, weights: {}, vectors: {} }
  const [attachment] = fromPeft(config, network, sites).attachments
  const attached: Attached = standing(sites, attachment as never)
  const { params, constants } = await loadPeft(folder, attached)
  const deltas = await deltasOf({ ...attached, constants }, { params }).catch((error: Error) => {
    throw new Failure(`${path}: ${error.message.replace('convert it with toLora first', hint)}`)
  })
  return { deltas, config }
}

const weightsOf = (text: string | undefined, n: number): readonly number[] | undefined => {
  if (text === undefined) return undefined
  const weights = text.split(',').map((w) => (w.trim() === '' ? Number.NaN : Number(w)))
  if (weights.some((w) => !Number.isFinite(w)))
    throw usage(`--weights must be numbers with commas between them, found '${text}'; see weft combine --help`)
  if (weights.length !== n)
    throw usage(`--weights: ${n} adapters need ${n} weights, found ${weights.length}; see weft combine --help`)
  return weights
}

export const combine = async (call: Call): Promise<number> => {
  const { args, text, number, flag } = call
  const [paths, out] = [args.slice(0, -1), args.at(-1)!]
  const type = (text('type') ?? 'svd') as Combination
  if (!combinations.includes(type)) throw usage(`--type: there is no '${type}'; there are ${combinations.join(', ')}`)
  const sign = text('sign')
  if (sign !== undefined && !['total', 'frequency'].includes(sign))
    throw usage(`--sign must be total or frequency, found '${sign}'`)
  const rank = number('rank', { min: 1, whole: true })
  const variance = number('variance', { min: 0, max: 1 })
  const density = number('density', { min: 0, max: 1 })
  const clamp = number('clamp', { min: 0, max: 1 })
  const seed = number('seed', { min: 0, whole: true }) ?? 0
  if (!type.endsWith('svd')) {
    const odd = ['rank', 'variance', 'clamp'].find((o) => text(o) !== undefined)
    if (odd) throw usage(`--${odd} goes with a --type that ends in svd, found ${type}`)
  }
  if (variance !== undefined && (rank !== undefined || clamp !== undefined || type !== 'svd' || variance === 0))
    throw usage('--variance is a share above 0, and goes with --type svd and neither --rank nor --clamp')
  const dense = /^(svd|linear|cat)$/.test(type)
  if (dense === (density !== undefined))
    throw usage(
      dense ? `--density goes with ties, dare and magnitude_prune, found ${type}` : `--type ${type} needs --density`,
    )
  if (/^[-\d.,]+$/.test(out))
    throw usage(`combine needs OUT, a folder, found '${out}'; give weights as --weights=${out}`)
  const folders = await adapterFolders(paths)
  const weights = weightsOf(text('weights'), folders.length)
  for (const folder of folders) await guardOut(out, nodeFolder(folder))
  await startBackend(text('backend'))
  const opened: Awaited<ReturnType<typeof open>>[] = []
  for (const folder of folders) opened.push(await open(folder))
  const options = {
    ...(weights && { weights }),
    ...(rank !== undefined && { rank }),
    ...(density !== undefined && { density }),
    ...(sign !== undefined && { sign: sign as 'total' | 'frequency' }),
    ...(clamp !== undefined && { clamp }),
    rng: rng(seed),
  }
  const all = opened.map((o) => o.deltas)
  const deltas =
    variance === undefined
      ? combined(all, { ...options, type })
      : compress(combined(all, { ...options, type: 'cat' }), { variance })
  const bases = [...new Set(opened.map(({ config }) => config.base_model_name_or_path ?? undefined))]
  const [{ config }] = opened as [(typeof opened)[number]]
  const written = await writeLora(deltas, out, {
    ...(bases.length === 1 && bases[0] !== undefined && { base: bases[0] }),
    ...(config.task_type !== undefined && { task: config.task_type }),
  })
  if (flag('json')) printJson({ out, type, ...written })
  else print(told(written, out))
  return 0
}
