import { type Command, SHARED } from '../command.ts'

export const extract: Command = {
  name: 'extract',
  summary: 'Writes what lies between two models as a LoRA for the first.',
  args: ['BASE', 'TUNED', 'OUT'],
  options: {
    rank: { value: 'N', help: 'of every matrix' },
    variance: { value: 'P', help: 'in place of --rank: the smallest ranks that hold this share of the variance' },
    at: { value: 'GLOB', many: true, help: 'which matrices; all linear ones of the blocks by default' },
    backend: SHARED.backend,
    json: { help: 'print {out, sites, rank: [least, most], parameters, left, files}' },
  },
  examples: [
    'weft extract mini voice-mini voice-lora --rank 16',
    'weft extract mini voice-mini voice-lora --variance 0.9',
  ],
  run: async (call) => (await import('../run/extract.ts')).extract(call),
}
