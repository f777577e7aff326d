import { generate as stream } from '@weftjs/model'
import { kvStaircase } from '@weftjs/quant'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { usage } from '../fail.ts'
import { idsOf } from '../ids.ts'
import { openFolder, openNetwork, openTokenizer, tunedFrom } from '../models.ts'
import { print, printJson, printRaw } from '../terminal.ts'

/** how keys and values of earlier tokens are kept */
const CACHES: Readonly<Record<string, () => ReturnType<typeof kvStaircase>>> = {
  int8: () => kvStaircase({ window: 0, steps: [{ bits: 8 }], keys: 'token' }),
  staircase: () =>
    kvStaircase({ window: 128, steps: [{ bits: 8, until: 1024 }, { bits: 4, until: 4096 }, { bits: 2 }] }),
}

export const generate = async ({ args: [model], text, number, flag, all }: Call): Promise<number> => {
  const prompt = text('prompt')
  const list = text('ids') === undefined ? undefined : idsOf(text('ids')!)
  if ((prompt === undefined) === (list === undefined))
    throw usage(`generate needs one of --prompt and --ids, found ${list ? 'both' : 'none'}`)
  if (list && flag('chat')) throw usage('--chat puts a --prompt into the chat template; it does not go with --ids')
  const options = {
    maxTokens: number('max-tokens', { min: 1, whole: true }) ?? 128,
    temperature: number('temperature', { min: 0 }) ?? 0,
    topK: number('top-k', { min: 1, whole: true }),
    topP: number('top-p', { min: 0, max: 1 }),
    repetitionPenalty: number('repetition-penalty', { min: 0.01 }),
    seed: number('seed', { min: 0, whole: true }) ?? 0,
    stop: all('stop'),
  }
  if (options.stop.includes('')) throw usage('--stop must not be empty; leave it out')
  const kv = text('kv')
  if (kv !== undefined && !Object.hasOwn(CACHES, kv))
    throw usage(`--kv must be ${Object.keys(CACHES).join(' or ')}, found '${kv}'`)
  await startBackend(text('backend'))
  const folder = await openFolder(model!)
  const network = await openNetwork(folder)
  const bare = list !== undefined && !options.stop.length && !(await folder.has('tokenizer.json'))
  const tokenizer = bare ? undefined : await openTokenizer(folder, network)
  const { tuned, params } = await tunedFrom(network, all('adapter'))
  if (flag('chat') && !tokenizer?.chat) throw usage(`${model} has no chat template; leave --chat out`)
  const asked = flag('chat')
    ? tokenizer!.encode(tokenizer!.chat!([{ role: 'user', content: prompt! }], { generationPrompt: true }), {
        special: false,
      })
    : (list ?? tokenizer!.encode(prompt!))
  const stop = new AbortController()
  const onSignal = (): void => stop.abort()
  process.once('SIGINT', onSignal)
  const given = Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined))
  const cache = kv === undefined ? {} : { cache: CACHES[kv]!() }
  const answer = { text: '', ids: [] as number[], logprobs: [] as number[], finish: 'length' as string }
  try {
    for await (const t of stream(tuned, [asked], { ...given, ...cache, params, tokenizer, signal: stop.signal })) {
      answer.text += t.text
      answer.ids.push(t.id)
      answer.logprobs.push(t.logprob)
      if (t.finish) answer.finish = t.finish
      if (!flag('json')) printRaw(tokenizer ? t.text : `${answer.ids.length > 1 ? ',' : ''}${t.id}`)
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error
    if (!flag('json')) print('')
    return 130
  } finally {
    process.off('SIGINT', onSignal)
  }
  if (flag('json')) printJson(answer)
  else print('')
  return 0
}
