import { type Command, SHARED } from '../command.ts'

export const score: Command = {
  name: 'score',
  summary: "How likely a model finds a text: the loss, and each token's log-probability.",
  args: ['MODEL'],
  options: {
    text: { value: 'TEXT', help: 'the text' },
    ids: { value: '1,2,3', help: 'token ids in its place' },
    file: { value: 'FILE', help: 'a file of text in its place; longer than the model takes, it is scored in pieces' },
    adapter: SHARED.adapter,
    backend: SHARED.backend,
    logits: {
      value: 'FILE.safetensors',
      help: 'write all logits, [tokens, vocabulary] float32, as the tensor "logits"',
    },
    json: { help: 'print {loss, tokens: [{id, logprob}]}' },
  },
  examples: [
    'weft score mini --text "The king spoke."',
    'weft score ./model --ids 1,2,3 --logits logits.safetensors --json',
  ],
  run: async (call) => (await import('../run/score.ts')).score(call),
}
