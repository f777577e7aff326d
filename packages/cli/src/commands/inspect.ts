import { type Command, SHARED } from '../command.ts'

export const inspect: Command = {
  name: 'inspect',
  summary: 'What is in a safetensors file, a model folder or an adapter folder, without reading a tensor.',
  args: ['FILE|DIR|MODEL'],
  options: { json: SHARED.json },
  examples: ['weft inspect mini', 'weft inspect runs/voice --json', 'weft inspect model.safetensors'],
  run: async (call) => (await import('../run/inspect.ts')).inspect(call),
}
