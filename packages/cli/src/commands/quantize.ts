import { type Command, SHARED } from '../command.ts'

export const quantize: Command = {
  name: 'quantize',
  summary: 'Writes a model with its matrices in few bits, in the layout of bitsandbytes.',
  args: ['MODEL', 'OUT'],
  options: {
    codec: { value: 'nf4|nf4-plain|int8', help: 'the format; nf4 quantizes its scales as well' },
    at: { value: 'GLOB', help: 'which matrices; those of all blocks by default' },
    backend: SHARED.backend,
    json: { help: 'print the sizes as JSON' },
  },
  examples: ['weft quantize mini mini-nf4 --codec nf4'],
  run: async (call) => (await import('../run/quantize.ts')).quantize(call),
}
