import type { Call } from '../command.ts'
import { usage } from '../fail.ts'
import { methods } from '../methods.generated.ts'
import { print, printJson } from '../terminal.ts'

export const list = async ({ args: [family], flag }: Call): Promise<number> => {
  const families = [...new Set(methods.map((m) => m.family))]
  if (family !== undefined && !families.includes(family))
    throw usage(`there is no family '${family}'; there are ${families.join(', ')}`)
  const shown = methods.filter((m) => family === undefined || m.family === family)
  if (flag('json')) printJson(shown)
  else {
    const wide = Math.max(...shown.map((m) => m.name.length))
    for (const f of families.filter((f) => shown.some((m) => m.family === f))) {
      print(f)
      for (const m of shown.filter((m) => m.family === f))
        print(`  ${m.name.padEnd(wide + 2)}${m.equation}  ${m.paper}`)
    }
  }
  return 0
}
