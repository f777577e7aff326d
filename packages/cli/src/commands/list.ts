import { type Command, SHARED } from '../command.ts'

export const list: Command = {
  name: 'list',
  summary: 'Names every method: its family, file and paper.',
  args: ['[FAMILY]'],
  options: { json: SHARED.json },
  examples: ['weft list', 'weft list lora --json'],
  run: async (call) => (await import('../run/list.ts')).list(call),
}
