import { usage } from './fail.ts'

/** `1,2,3` of --ids @throws Failure for anything else */
export const idsOf = (text: string): number[] =>
  text.split(',').map((part) => {
    const id = Number(part)
    if (part.trim() === '' || !Number.isInteger(id) || id < 0)
      throw usage(`--ids takes whole numbers with commas between, found '${part}'`)
    return id
  })
