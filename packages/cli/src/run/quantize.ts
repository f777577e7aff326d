import { resolve } from 'node:path'
import { save } from '@weftjs/model/node'
import { quantize as pack } from '@weftjs/quant'
import { bytesOf } from '@weftjs/tensor'
import { startBackend } from '../backends.ts'
import { codecOf } from '../codecs.ts'
import type { Call } from '../command.ts'
import { usage } from '../fail.ts'
import { openFolder, openNetwork, weigh } from '../models.ts'
import { guardOut } from '../out.ts'
import { packedWriter } from '../packed.ts'
import { print, printJson, size, status, statusDone } from '../terminal.ts'

export const quantize = async ({ args: [model, out], text, flag }: Call): Promise<number> => {
  const name = text('codec')
  if (name === undefined) throw usage('quantize needs --codec nf4|nf4-plain|int8')
  const codec = codecOf(name, '--codec')
  await startBackend(text('backend'))
  const folder = await openFolder(model!)
  await guardOut(resolve(out!), folder)
  const network = await openNetwork(folder)
  const before = weigh(network)
  const at = text('at')
  const packed = await pack(network, codec, {
    consume: true,
    ...(at !== undefined && { at }),
    onProgress: ({ name, weights, of }) => status(`packing ${name}, ${weights} of ${of} matrices`),
  })
  statusDone()
  const after = weigh(packed)
  const values = Object.entries(packed.weights).filter(([, w]) => w.format === codec.name)
  const bits =
    (8 * values.reduce((n, [, w]) => n + bytesOf(w.parts), 0)) /
    values.reduce((n, [, w]) => n + w.shape[0] * w.shape[1], 0)
  const files = await save(packed, resolve(out!), { from: folder, ...(await packedWriter(packed)) })
  if (flag('json'))
    printJson({
      out,
      codec: codec.name,
      matrices: values.length,
      bits_per_weight: bits,
      bytes_before: before,
      bytes_after: after,
      files,
    })
  else
    print(
      `${out}: ${values.length} matrices at ${bits.toFixed(3)} bits per weight; weights ${size(before)} -> ${size(after)}; ${files.join(', ')}`,
    )
  return 0
}
