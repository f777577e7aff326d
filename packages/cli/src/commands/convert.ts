import { type Command, SHARED } from '../command.ts'

export const convert: Command = {
  name: 'convert',
  summary:
    'Writes an adapter of any method that folds as a LoRA, which every tool reads; a LoRA as the GGUF file that llama.cpp takes, a LoRA or IA3 as a small ComPEFT file, and back; a dense model as a mixture of experts.',
  args: ['ADAPTER', 'OUT'],
  options: {
    to: {
      value: 'lora|gguf|compeft|peft|moe',
      help: 'by the ending of OUT, else lora; gguf: OUT is a file for llama.cpp; compeft: one of signs and one magnitude; peft: of such a file, a folder again; moe: of a MODEL, with a copy of its MLP as each expert',
    },
    rank: { value: 'N', help: 'of every matrix' },
    variance: { value: 'P', help: 'in place of --rank: the smallest ranks that hold this share of the variance' },
    model: { value: 'MODEL', help: 'the model that it was trained on; the one that its config names by default' },
    dtype: { value: 'F32|F16|BF16', help: 'to gguf: of its numbers (F32)' },
    keep: { value: 'P', help: 'to compeft: the share of all numbers that is kept (0.1)' },
    alpha: { value: 'X', help: 'to compeft: their magnitude, in standard deviations of all numbers (1)' },
    magnitude: { value: 'std|mean|own', help: "to compeft: that, the mean of what is kept, or each number's own" },
    experts: { value: 'N', help: 'to moe: experts of each layer (8)' },
    top: { value: 'K', help: 'to moe: those that a token goes through (2)' },
    seed: { value: 'N', help: 'to moe: of the router, which is new (0)' },
    backend: SHARED.backend,
    json: { help: 'print {out, from, sites, rank: [least, most], parameters, files}' },
  },
  examples: [
    'weft convert runs/oft oft-lora --rank 16',
    'weft convert runs/oft oft-lora --variance 0.9 --model mini',
    'weft convert runs/voice voice.gguf --model mini',
    'weft convert runs/voice voice.cpft --keep 0.2',
    'weft convert mini mini-moe --to moe --experts 4 --top 2',
  ],
  run: async (call) => (await import('../run/convert.ts')).convert(call),
}
