import { type Command, SHARED } from '../command.ts'

export const convert: Command = {
  name: 'convert',
  summary: 'Writes an adapter of any method that folds as a LoRA, which every tool reads.',
  args: ['ADAPTER', 'OUT'],
  options: {
    to: { value: 'lora', help: 'the method to convert to (lora)' },
    rank: { value: 'N', help: 'of every matrix' },
    variance: { value: 'P', help: 'in place of --rank: the smallest ranks that hold this share of the variance' },
    model: { value: 'MODEL', help: 'the model that it was trained on; the one that its config names by default' },
    backend: SHARED.backend,
    json: { help: 'print {out, from, sites, rank: [least, most], parameters, files}' },
  },
  examples: ['weft convert runs/oft oft-lora --rank 16', 'weft convert runs/oft oft-lora --variance 0.9 --model mini'],
  run: async (call) => (await import('../run/convert.ts')).convert(call),
}
