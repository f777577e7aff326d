import { type Command, SHARED } from '../command.ts'

export const quantize: Command = {
  name: 'quantize',
  summary: 'Writes a model with its matrices in few bits, in the layout of the tool that knows the format.',
  args: ['MODEL', 'OUT'],
  options: {
    codec: {
      value: 'nf4|nf4-dq|int8|int4|hqq|gptq|awq|aqlm|mixed:bits=4.5|gguf:Q4_K_M|...',
      help: 'the format, with options as gptq:bits=3,group=64; weft list quant has them all. OUT.gguf takes gguf:TYPE',
    },
    at: { value: 'GLOB', help: 'which matrices; those of all blocks by default' },
    calibrate: {
      value: 'FILE',
      help: 'texts (or rows) whose way through the model gptq, awq and aqlm look at, and mixed and GGUF files where given',
    },
    batches: { value: 'N', help: 'how many rows of up to 512 tokens they look at; 32 by default' },
    imatrix: { value: 'FILE', help: "llama.cpp's importance matrix for OUT.gguf, in place of --calibrate" },
    layout: {
      value: 'NAME',
      help: 'bitsandbytes, gptq, awq, hqq, aqlm, ... or weft; the first that holds them by default',
    },
    backend: SHARED.backend,
    json: { help: 'print the sizes as JSON' },
  },
  examples: [
    'weft quantize mini mini-nf4 --codec nf4-dq',
    'weft quantize mini mini-gptq --codec gptq:group=64 --calibrate texts.txt',
    'weft quantize mini mini.gguf --codec gguf:Q8_0',
    'weft quantize mini mini.gguf --codec gguf:Q4_K_M --calibrate texts.txt',
  ],
  run: async (call) => (await import('../run/quantize.ts')).quantize(call),
}
