import { type Command, helpOf, parse } from './command.ts'
import { finetune } from './commands/finetune.ts'
import { fold } from './commands/fold.ts'
import { generate } from './commands/generate.ts'
import { inspect } from './commands/inspect.ts'
import { list } from './commands/list.ts'
import { merge } from './commands/merge.ts'
import { pretrain } from './commands/pretrain.ts'
import { quantize } from './commands/quantize.ts'
import { score } from './commands/score.ts'
import { Failure } from './fail.ts'
import { print, warn } from './terminal.ts'

export const commands: readonly Command[] = [finetune, pretrain, score, generate, fold, merge, quantize, inspect, list]

const overview = (): string =>
  [
    'weft COMMAND [arguments]',
    '',
    'Adapts pretrained neural networks.',
    '',
    ...commands.map((c) => `  ${c.name.padEnd(10)}${c.summary.split('\n')[0]}`),
    '',
    'MODEL is a folder with config.json, a name on the Hugging Face hub (org/name or org/name@revision), or mini.',
    'weft COMMAND --help shows a command; WEFT_DEBUG=1 shows where an error comes from.',
    '',
  ].join('\n')

/** Runs a command line; → the exit code: 0 done, 1 it could not be done, 2 the arguments are off, 130 interrupted. */
export const main = async (argv: readonly string[]): Promise<number> => {
  const [name, ...rest] = argv
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    print(overview())
    return name === undefined ? 2 : 0
  }
  const command = commands.find((c) => c.name === name)
  if (!command) {
    warn(`there is no command '${name}'; there are ${commands.map((c) => c.name).join(', ')}`)
    return 2
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    print(helpOf(command))
    return 0
  }
  try {
    return await command.run(parse(command, rest))
  } catch (error) {
    warn(`weft ${name}: ${explain(error)}`)
    if (process.env['WEFT_DEBUG']) warn(String((error as Error).stack))
    return error instanceof Failure ? error.exitCode : 1
  }
}

/** what went wrong, with a remedy where the message comes from a lower layer that knows none */
const explain = (error: unknown): string => {
  const { message, code, path } = error as { message?: string; code?: string; path?: string }
  if (code === 'ENOENT') return `${path ?? 'a file'}: no such file or folder`
  if (code === 'EACCES') return `${path ?? 'a file'}: permission denied`
  if (code === 'ENOSPC') return 'the disk is full; nothing that was there is damaged'
  if (
    /out of memory|Array buffer allocation failed|Invalid typed array length|cannot enlarge memory|RuntimeError: memory/i.test(
      message ?? '',
    )
  )
    return `out of memory (${message}); lower train.batch or train.length, quantize the base, or take another backend`
  return message ?? String(error)
}
