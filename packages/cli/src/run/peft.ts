import { mkdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { PEFT_CONFIG, PEFT_STEM, PEFT_TENSORS } from '@weftjs/lora'
import { elementsOf, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { writeBytes } from '../files.ts'
import { adapterFolder, configOf, isCompeftFile, isGgufFile } from '../models.ts'
import { print, printJson } from '../terminal.ts'

/** how many numbers the tensors of a folder hold */
const numbersIn = async (folder: Folder): Promise<number> => {
  const checkpoint = await openCheckpoint(folder, { stem: PEFT_STEM })
  try {
    return checkpoint.names.reduce((n, name) => n + elementsOf(checkpoint.entry(name).shape)!, 0)
  } finally {
    await checkpoint.close()
  }
}

/** a ComPEFT file or a GGUF LoRA as a PEFT folder again */
export const convertToPeft = async ({ args: [path, out], text, flag }: Call): Promise<number> => {
  if (!(await isCompeftFile(path!)) && !(await isGgufFile(path!))) {
    const found = await stat(path!).catch(() => undefined)
    throw new Failure(
      found?.isDirectory()
        ? `${path}: a folder, and --to peft makes one of a ComPEFT file or a GGUF LoRA; name that`
        : `${path}: ${found ? 'does not begin with CPFT; it is no ComPEFT file, and no GGUF one' : 'there is no such file; check the path'}`,
    )
  }
  const model = text('model')
  await startBackend(text('backend') ?? 'cpu')
  const folder = await adapterFolder(path!, model === undefined ? undefined : await configOf(model))
  const numbers = await numbersIn(folder)
  const target = resolve(out!)
  if ((await stat(target).catch(() => undefined))?.isFile())
    throw new Failure(`${out}: a file, and a folder is written; choose another name`)
  await mkdir(target, { recursive: true })
  const files = [PEFT_TENSORS, PEFT_CONFIG]
  for (const file of files) {
    const source = await folder.open(file)
    try {
      await writeBytes(join(target, file), await source.read(0, source.size))
    } finally {
      await source.close?.()
    }
  }
  if (flag('json')) printJson({ out, numbers, files })
  else print(`${out}: ${files.join(', ')}; ${numbers.toLocaleString('en')} numbers`)
  return 0
}
