import type { Call } from '../command.ts'
import { type Feed, tellNotes } from '../feed.ts'
import { writeProfile } from '../profile.ts'
import { type Outcome, type Run, runTraining } from '../session.ts'
import { print, printJson, warn } from '../terminal.ts'

/** as a shell takes it */
const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)

/** trains, saves, and says so in the words that finetune and pretrain share; → the exit code */
export const trainAndSave = async (
  { args: [path], flag, all, text }: Call,
  run: Run,
  data: Feed,
  save: (outcome: Outcome) => Promise<readonly string[]>,
): Promise<number> => {
  const { command, out, identity } = run
  const of = identity.settings.train.steps
  let outcome: Outcome
  try {
    outcome = await runTraining(run)
  } finally {
    await data.close()
  }
  tellNotes(data.notes)
  const { step, loss, validation, interrupted } = outcome
  const profile = outcome.profile && { profile: await writeProfile(outcome.profile, out, flag('json')) }
  if (interrupted) {
    const again = [
      ...all('set').flatMap((s) => ['--set', s]),
      ...(text('backend') ? ['--backend', text('backend')!] : []),
    ]
    const more = ['--out', out, ...again].map(quoted).join(' ')
    warn(`stopped after step ${step} of ${of}; go on with: weft ${command} ${quoted(path!)} ${more} --resume`)
    if (flag('json')) printJson({ out, steps: step, of, interrupted, loss, validation, files: [], ...profile })
    return 130
  }
  const files = await save(outcome)
  if (flag('json')) printJson({ out, steps: step, of, interrupted, loss, validation, files, ...profile })
  else {
    const said = [
      loss === undefined ? `was done at step ${step}` : `loss ${loss.toFixed(4)} at step ${step}`,
      ...(validation === undefined ? [] : [`held out ${validation.toFixed(4)}`]),
    ]
    print(`${out}: ${files.join(', ')}; ${said.join(', ')}`)
  }
  return 0
}
