import { type Command, SHARED } from '../command.ts'

export const combine: Command = {
  name: 'combine',
  summary: 'Makes one LoRA of several, by the rules of PEFT; needs no model.',
  args: ['ADAPTER...', 'OUT'],
  options: {
    weights: { value: 'W,W,...', help: 'one for each adapter; a negative one takes its effect away (1 each)' },
    type: {
      value: 'TYPE',
      help: 'svd (the default) or cat: exact; linear, ties, dare_ties, dare_linear, magnitude_prune: of the factors, and with _svd of the matrices',
    },
    rank: { value: 'N', help: 'of svd types; the largest of the adapters by default' },
    variance: {
      value: 'P',
      help: 'of svd: the smallest ranks that hold this share of the variance, in place of --rank',
    },
    density: { value: 'P', help: 'of ties, dare and magnitude_prune: the share of entries that stay' },
    sign: { value: 'total|frequency', help: 'of ties: how a sign is chosen (total)' },
    clamp: { value: 'Q', help: 'of svd types: cut factors at this quantile' },
    seed: { value: 'N', help: 'of dare (0)' },
    backend: SHARED.backend,
    json: { help: 'print {out, type, sites, rank: [least, most], parameters, files}' },
  },
  examples: [
    'weft combine runs/voice runs/facts both --weights 0.7,0.3',
    'weft combine runs/voice runs/facts both --type ties --density 0.3',
  ],
  run: async (call) => (await import('../run/combine.ts')).combine(call),
}
