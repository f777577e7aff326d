import { generate as stream } from '@weftjs/model'
import { startBackend } from '../backends.ts'
import { type Command, SHARED } from '../command.ts'
import { usage } from '../fail.ts'
import { openFolder, openNetwork, openTokenizer, tunedFrom } from '../models.ts'
import { print, printJson, printRaw } from '../terminal.ts'

export const generate: Command = {
  name: 'generate',
  summary: 'Goes on with a prompt, greedily or by chance.',
  args: ['MODEL'],
  options: {
    prompt: { value: 'TEXT', help: 'what to go on with' },
    chat: { help: 'the prompt is a message to an assistant: put it into the chat template' },
    adapter: SHARED.adapter,
    backend: SHARED.backend,
    'max-tokens': { value: 'N', help: 'at most so many tokens (128)' },
    temperature: { value: 'T', help: '0 is greedy, the default' },
    'top-k': { value: 'N', help: 'choose among the N likeliest' },
    'top-p': { value: 'P', help: 'choose among the likeliest that share this mass' },
    'repetition-penalty': { value: 'X', help: 'above 1, makes what was said less likely' },
    stop: { value: 'TEXT', many: true, help: 'end before this text; may be repeated' },
    seed: { value: 'N', help: 'the same seed gives the same text (0)' },
    json: { help: 'print {text, ids, logprobs, finish}' },
  },
  examples: [
    'weft generate mini --prompt "Once upon a time" --temperature 0.8',
    'weft generate mini --adapter runs/voice --prompt "The sea"',
  ],
  run: async ({ args: [model], text, number, flag, all }) => {
    const prompt = text('prompt')
    if (prompt === undefined) throw usage('generate needs --prompt TEXT')
    const options = {
      maxTokens: number('max-tokens', { min: 1, whole: true }) ?? 128,
      temperature: number('temperature', { min: 0 }) ?? 0,
      topK: number('top-k', { min: 1, whole: true }),
      topP: number('top-p', { min: 0, max: 1 }),
      repetitionPenalty: number('repetition-penalty', { min: 0.01 }),
      seed: number('seed', { whole: true }) ?? 0,
      stop: all('stop'),
    }
    await startBackend(text('backend'))
    const folder = await openFolder(model!)
    const network = await openNetwork(folder)
    const tokenizer = await openTokenizer(folder, network)
    const { tuned, params } = await tunedFrom(network, text('adapter'))
    if (flag('chat') && !tokenizer.chat) throw usage(`${model} has no chat template; leave --chat out`)
    const asked = flag('chat')
      ? tokenizer.encode(tokenizer.chat!([{ role: 'user', content: prompt }], { generationPrompt: true }), {
          special: false,
        })
      : tokenizer.encode(prompt)
    const stop = new AbortController()
    process.once('SIGINT', () => stop.abort())
    const given = Object.fromEntries(Object.entries(options).filter(([, v]) => v !== undefined))
    const answer = { text: '', ids: [] as number[], logprobs: [] as number[], finish: 'length' as string }
    try {
      for await (const t of stream(tuned, [asked], { ...given, params, tokenizer, signal: stop.signal })) {
        answer.text += t.text
        answer.ids.push(t.id)
        answer.logprobs.push(t.logprob)
        if (t.finish) answer.finish = t.finish
        if (!flag('json')) printRaw(t.text)
      }
    } catch (error) {
      if (!stop.signal.aborted) throw error
      if (!flag('json')) print('')
      return 130
    }
    if (flag('json')) printJson(answer)
    else print('')
    return 0
  },
}
