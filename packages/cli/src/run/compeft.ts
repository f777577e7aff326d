import { mkdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { PEFT_TENSORS } from '@weftjs/lora'
import { compeftAdapter, readCompeft, type TernaryVector } from '@weftjs/quant'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import { writeBytes } from '../files.ts'
import { adapterFolder, isCompeftFile, isGgufFile, oneAdapter } from '../models.ts'
import { print, printJson, size } from '../terminal.ts'

const MAGNITUDES = ['std', 'mean', 'own'] as const

/** a PEFT folder as one ComPEFT file */
export const convertToCompeft = async ({ args: [path, out], text, number, flag }: Call): Promise<number> => {
  const keep = number('keep', { min: 0, max: 1 })
  const alpha = number('alpha', { min: 0 })
  if (keep === 0) throw usage('--keep must be more than 0')
  if (alpha === 0) throw usage('--alpha must be more than 0')
  const magnitude = text('magnitude') as (typeof MAGNITUDES)[number] | undefined
  if (magnitude !== undefined && !MAGNITUDES.includes(magnitude))
    throw usage(`--magnitude must be one of ${MAGNITUDES.join(', ')}, found '${magnitude}'`)
  const target = resolve(out!)
  if ((await stat(target).catch(() => undefined))?.isDirectory())
    throw new Failure(`${out}: a folder, and a ComPEFT file is written; name a file in it, such as ${out}/adapter.cpft`)
  const own = await oneAdapter(path!)
  if (await isCompeftFile(own)) throw new Failure(`${path}: is a ComPEFT file already; --to peft makes it a folder`)
  await startBackend(text('backend') ?? 'cpu')
  const folder = await adapterFolder(own)
  const file = (await isGgufFile(own)) ? own : join(own, PEFT_TENSORS)
  const before = (await stat(file).catch(() => undefined))?.size
  const data = await compeftAdapter(folder, {
    ...(keep !== undefined && { keep }),
    ...(alpha !== undefined && { alpha }),
    ...(magnitude && { magnitude }),
  })
  await mkdir(dirname(target), { recursive: true })
  await writeBytes(target, data)
  const { kept, numbers, scale } = tallyOf(readCompeft(data, { file: out! }).ternary)
  if (flag('json')) printJson({ out, numbers, kept, scale, bytes: data.length, bytes_before: before })
  else
    print(
      `${out}: ${kept.toLocaleString('en')} of ${numbers.toLocaleString('en')} numbers kept; ${before === undefined ? '' : `${size(before)} -> `}${size(data.length)}`,
    )
  return 0
}

/** how many numbers there are, and how many of them are not 0 */
export const tallyOf = (ternary: TernaryVector): { numbers: number; kept: number; scale: number } => {
  const ones = (words: Int32Array): number =>
    words.reduce((n, w) => {
      let [left, found] = [w >>> 0, 0]
      for (; left; left = (left & (left - 1)) >>> 0) found++
      return n + found
    }, 0)
  return { numbers: ternary.length, kept: ones(ternary.plus) + ones(ternary.minus), scale: ternary.scale }
}
