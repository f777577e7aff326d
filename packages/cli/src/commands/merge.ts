import { type Command, SHARED } from '../command.ts'

export const merge: Command = {
  name: 'merge',
  summary: 'Merges checkpoints as a mergekit YAML file says, a tensor at a time.',
  args: ['CONFIG.yaml', 'OUT'],
  options: {
    shard: { value: 'BYTES', help: 'a file of weights has at most so many (5e9)' },
    backend: SHARED.backend,
    json: { help: 'print {out, models, backend, files}' },
  },
  examples: ['weft merge ties.yaml merged'],
  run: async (call) => (await import('../run/merge.ts')).merge(call),
}
