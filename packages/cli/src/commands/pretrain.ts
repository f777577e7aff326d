import { type Command, SHARED } from '../command.ts'

export const pretrain: Command = {
  name: 'pretrain',
  summary: 'Trains a model from random weights, as a run file says; writes a Hugging Face folder.',
  args: ['RUN.yaml'],
  options: {
    out: { value: 'DIR', help: 'folder for results, in place of the run file\'s "out"' },
    backend: SHARED.backend,
    resume: { help: 'go on from the last checkpoint in the folder' },
    restart: { help: 'begin again in a folder that holds an unfinished run' },
    set: { value: 'PATH=VALUE', many: true, help: 'change a field of the run file; may be repeated' },
    profile: { help: 'time every kernel: a table, and OUT/profile.json for chrome://tracing or Perfetto' },
    json: { help: 'print {out, steps, of, interrupted, loss, validation, files}' },
  },
  examples: ['weft pretrain tools/mini/mini.yaml --set data.path=books.txt'],
  run: async (call) => (await import('../run/pretrain.ts')).pretrain(call),
}
