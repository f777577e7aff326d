import { type Command, SHARED } from '../command.ts'

export const generate: Command = {
  name: 'generate',
  summary: 'Goes on with a prompt, greedily or by chance.',
  args: ['MODEL'],
  options: {
    prompt: { value: 'TEXT', help: 'what to go on with' },
    ids: { value: '1,2,3', help: 'token ids in its place' },
    chat: { help: 'the prompt is a message to an assistant: put it into the chat template' },
    adapter: SHARED.adapter,
    backend: SHARED.backend,
    'max-tokens': { value: 'N', help: 'at most so many tokens (128)' },
    temperature: { value: 'T', help: '0 is greedy, the default' },
    'top-k': { value: 'N', help: 'choose among the N likeliest' },
    'top-p': { value: 'P', help: 'choose among the likeliest that share this mass' },
    'repetition-penalty': { value: 'X', help: 'above 1, makes what was said less likely' },
    stop: { value: 'TEXT', many: true, help: 'end before this text; may be repeated' },
    kv: {
      value: 'int8|staircase',
      help: 'keep keys and values in 8 bits, or in fewer the older they are: 128 tokens whole, 8 bits to 1024, 4 to 4096, then 2',
    },
    seed: { value: 'N', help: 'the same seed gives the same text (0)' },
    json: { help: 'print {text, ids, logprobs, finish}' },
  },
  examples: [
    'weft generate mini --prompt "Once upon a time" --temperature 0.8',
    'weft generate mini --adapter runs/voice --prompt "The sea"',
  ],
  run: async (call) => (await import('../run/generate.ts')).generate(call),
}
