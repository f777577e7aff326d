import { type Command, SHARED } from '../command.ts'

export const finetune: Command = {
  name: 'finetune',
  summary: 'Trains adapters on a model, as a run file says; writes PEFT files, run.json and log.jsonl.',
  args: ['RUN.yaml'],
  options: {
    out: { value: 'DIR', help: 'folder for results, in place of the run file\'s "out"' },
    backend: SHARED.backend,
    resume: { help: 'go on from the last checkpoint in the folder' },
    restart: { help: 'begin again in a folder that holds an unfinished run' },
    set: {
      value: 'PATH=VALUE',
      many: true,
      help: 'change a field of the run file, e.g. train.steps=50; may be repeated',
    },
    estimate: { help: 'say how much memory the run would take, and do not train' },
    profile: { help: 'time every kernel: a table, and OUT/profile.json for chrome://tracing or Perfetto' },
    json: {
      help: 'print {out, steps, of, interrupted, loss, validation, files}; with --estimate {bytes, network, adapters, run}',
    },
  },
  examples: [
    'weft finetune examples/voice.yaml',
    'weft finetune run.yaml --set data.path=mine.txt --set train.lr=1e-3 --out runs/mine',
  ],
  run: async (call) => (await import('../run/finetune.ts')).finetune(call),
}
