import type { Params } from '@weftjs/spec'
import { tensor } from '@weftjs/tensor'
import { CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { type LoraOptions, loraScale } from '../lora.ts'
import type { XLoraOptions } from '../x-lora.ts'
import type { Folders } from './format.ts'
import { format as lora } from './formats/lora.ts'
import { peftOptions, targetsOf } from './meaning.ts'
import { PEFT_PREFIX, PEFT_STEM } from './names.ts'
import { factorsOf, folderOf, GATE, gateNames, lorasOf } from './x-lora.ts'

/** reads tensors by name, each of the shape that is needed, and says where one is left over */
const reading = async (
  folder: Folder,
  read: (floats: (name: string, shape: readonly number[]) => Promise<Float32Array>) => Promise<void>,
): Promise<void> => {
  const file = await openCheckpoint(folder, { stem: PEFT_STEM })
  const fail = (tensor: string, what: string): never => {
    throw new CheckpointError(what, { file: file.name, tensor })
  }
  try {
    const used = new Set<string>()
    await read(async (name, shape) => {
      used.add(name)
      if (!file.has(name))
        return fail(
          name,
          `missing${name.startsWith(GATE) ? '; PEFT 0.21 leaves out layers of a gate whose number is the name of an adapter: save them from its state_dict' : ''}`,
        )
      const found = file.entry(name).shape
      if (found.join() !== shape.join())
        return fail(name, `has shape [${found}], and [${shape}] is needed: the adapter belongs to another model`)
      return file.floats(name)
    })
    const odd = file.names.find((n) => !used.has(n))
    if (odd !== undefined) fail(odd, 'is of no use here; the adapter belongs to another model')
  } finally {
    await file.close()
  }
}

/** Gate and LoRAs for a network with an X-LoRA. */
export const loadXLora: Folders['load'] = async (config, folder, { bound, params, constants }) => {
  const [model] = bound.filter((b) => b.site.kind === 'model')
  const options = (model?.adapter.options ?? {}) as XLoraOptions
  const { rank = 8, experts = 2 } = options
  const loras = lorasOf(config)
  if (!model || loras.length !== experts)
    throw new Error(
      `${folder.name}: mixes ${loras.length} LoRAs, and this network does not; attach what fromPeft gives`,
    )
  const made = new Map<string, { values: Float32Array; shape: number[] }>()
  const zero = (name: string, shape: number[]): Float32Array => {
    const values = new Float32Array(shape.reduce((n, d) => n * d, 1))
    made.set(name, { values, shape })
    return values
  }
  const linears = new Map(
    bound.flatMap(({ site, prefix }) => {
      if (site.kind !== 'linear') return []
      const [out, input] = site.weight!.shape
      const a = zero(`${prefix}.a`, [experts * rank, input])
      return [[site.name, { site, a, b: zero(`${prefix}.b`, [out, experts * rank]) }] as const]
    }),
  )
  const sites = [...linears.values()].map((l) => l.site)
  for (const [i, own] of loras.entries())
    await reading(folderOf(folder, own), async (floats) => {
      const targets = targetsOf(lora, own, sites)
      const at = loraScale(peftOptions(lora, own, targets) as LoraOptions)
      for (const site of targets) {
        const { rank: r, factor } = at(site)
        if (r > rank)
          throw new Error(
            `${site.name}: the LoRA is of rank ${r}, and this adapter of ${rank}; attach what fromPeft gives`,
          )
        const [out, input] = site.weight!.shape
        const key = `${PEFT_PREFIX}${site.module}.lora_`
        const { a, b } = linears.get(site.name)!
        a.set(await floats(`${key}A.weight`, [r, input]), i * rank * input)
        const read = await floats(`${key}B.weight`, [out, r])
        const s = factor / factorsOf(options)[i]!
        for (let row = 0; row < out; row++)
          for (let j = 0; j < r; j++) b[(row * experts + i) * rank + j] = s * read[row * r + j]!
      }
    })
  await reading(folder, async (floats) => {
    for (const [ours, file] of gateNames(options)) {
      const name = `${model.prefix}.${ours}`
      const { shape } = params[name]!
      made.set(name, { values: await floats(file, shape), shape })
    }
  })
  const of = (wanted: Params): Params =>
    Object.fromEntries(
      [...made].flatMap(([n, { values, shape }]) => (Object.hasOwn(wanted, n) ? [[n, tensor(values, shape)]] : [])),
    )
  return { params: of(params), constants: of(constants) }
}
