import { type Command, SHARED } from '../command.ts'

export const fold: Command = {
  name: 'fold',
  summary: 'Writes a model with adapters folded into its weights.',
  args: ['MODEL'],
  options: {
    adapter: { value: 'DIR', many: true, help: 'the adapter; may be repeated' },
    out: { value: 'DIR', help: 'the folder to write' },
    dtype: { value: 'F32|F16|BF16', help: 'of the weights; as the model has them by default' },
    backend: SHARED.backend,
    json: { help: 'print what was written as JSON' },
  },
  examples: ['weft fold mini --adapter runs/voice --out voice-mini'],
  run: async (call) => (await import('../run/fold.ts')).fold(call),
}
