import { type Command, helpOf, parse } from './command.ts'
import { combine } from './commands/combine.ts'
import { convert } from './commands/convert.ts'
import { extract } from './commands/extract.ts'
import { finetune } from './commands/finetune.ts'
import { fold } from './commands/fold.ts'
import { generate } from './commands/generate.ts'
import { inspect } from './commands/inspect.ts'
import { list } from './commands/list.ts'
import { merge } from './commands/merge.ts'
import { pretrain } from './commands/pretrain.ts'
import { quantize } from './commands/quantize.ts'
import { score } from './commands/score.ts'
import { explain } from './explain.ts'
import { Failure } from './fail.ts'
import { nearest } from './nearest.ts'
import { dropOut } from './out.ts'
import { print, warn } from './terminal.ts'
import { versions } from './versions.ts'

export const commands: readonly Command[] = [
  ...[finetune, pretrain, score, generate, fold, merge, quantize],
  ...[combine, convert, extract, inspect, list],
]

const overview = (): string =>
  [
    'weft COMMAND [arguments]',
    '',
    'Adapts pretrained neural networks.',
    '',
    ...commands.map((c) => `  ${c.name.padEnd(10)}${c.summary}`),
    '',
    'MODEL is a folder with config.json, a GGUF file, a name on the Hugging Face hub (org/name or org/name@revision), or',
    'mini, a small model that comes with weft. ADAPTER and --adapter: a folder as PEFT writes it, a ComPEFT or a GGUF file.',
    'weft COMMAND --help shows a command; WEFT_DEBUG=1 shows where an error comes from.',
    'Exit codes: 0 done, 1 it could not be done, 2 the arguments are off, 130 interrupted.',
    '',
  ].join('\n')

/** Runs a command line; → the exit code: 0 done, 1 it could not be done, 2 the arguments are off, 130 interrupted. */
export const main = async (argv: readonly string[]): Promise<number> => {
  const [name, ...rest] = argv
  if (name === '--version' || name === '-v') {
    print(versions['weft']!)
    return 0
  }
  if (name === undefined) {
    warn(overview().trimEnd())
    return 2
  }
  if (name === '--help' || name === '-h' || (name === 'help' && !rest.length)) {
    print(overview())
    return 0
  }
  const wanted = name === 'help' ? rest[0]! : name
  const command = commands.find((c) => c.name === wanted)
  if (!command) {
    const names = [...commands.map((c) => c.name), ...(wanted.startsWith('-') ? ['--help', '--version'] : [])]
    const near = nearest(wanted, names)
    warn(`weft: there is no command '${wanted}'${near ? `; did you mean ${near}?` : `; there are ${names.join(', ')}`}`)
    return 2
  }
  const options = rest.slice(0, rest.includes('--') ? rest.indexOf('--') : rest.length)
  if (name === 'help' || options.includes('--help') || options.includes('-h')) {
    print(helpOf(command))
    return 0
  }
  try {
    return await command.run(parse(command, rest))
  } catch (error) {
    dropOut()
    warn(`weft ${name}: ${explain(error)}`)
    if (process.env['WEFT_DEBUG']) warn(String((error as Error).stack))
    return error instanceof Failure ? error.exitCode : 1
  }
}
