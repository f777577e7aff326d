/** The comparison of a family's methods, from claims/results, with what benchmarks say of each. */
import { existsSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { Report } from '../bench/harness/types.ts'
import type { Row, Table } from '../claims/table.ts'
import { type Method, read, root } from './source.ts'

const results = (name: string): string => `claims/results/${name}.json`
const two = (n: number): string => n.toFixed(2)
const size = (n: number): string => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e3).toFixed(1)} kB`)

/** time of a step and most bytes over LoRA's, by method, from the newest file that has them */
const costs = (): { time: Map<string, number>; memory: Map<string, number> } => {
  const folder = 'bench/results'
  const names = existsSync(join(root, folder)) ? readdirSync(join(root, folder)).sort().reverse() : []
  const found = { time: new Map<string, number>(), memory: new Map<string, number>() }
  for (const file of names.filter((n) => n.endsWith('.json'))) {
    const report = (JSON.parse(read(join(folder, file))) as Report[]).find((r) => r.name === 'adapters')
    for (const { metric, ratio } of report?.rows ?? []) {
      const [method, what] = metric.split(': ') as [string, string]
      if (!ratio) continue
      found[what.startsWith('ms') ? 'time' : 'memory'].set(method, 1 / ratio.median)
    }
    if (report) break
  }
  return found
}

const claimOf = ({ claim, holds, mean, sd, metric, note }: Row): string =>
  claim
    ? `${claim}: ${holds ? 'holds' : 'does not show here'} (${metric}: ${mean!.toFixed(3)} ± ${sd!.toFixed(3)})${note ? `. ${note}` : ''}`
    : ''

/** one row a method; or what to do before there are results */
export const claimsTable = (
  table: (head: readonly string[], rows: readonly (readonly string[])[]) => string,
  family: string,
  from: string,
  methods: readonly Method[],
): string => {
  const file = results(family)
  if (!existsSync(join(root, file)))
    return `No comparison has been kept yet: \`npm run claims -- ${family} --keep\` makes one.`
  const { rows, steps, grid, machine, date } = JSON.parse(read(file)) as Table
  const cost = costs()
  const lora = rows.find((r) => r.method === 'lora')?.run
  const known = new Map(methods.map((m) => [m.name, m]))
  const cells = rows.map((r): string[] => {
    const { run } = r
    const [at, bytes] = [cost.time.get(r.method), cost.memory.get(r.method)]
    const home = known.get(r.method)
    const name = home ? `[\`${r.method}\`](${relative(from, home.file)})` : `\`${r.method}\``
    if (!run || !lora) return [name, '', '', '', '', '', '', '', claimOf(r)]
    return [
      name,
      `${run.loss.mean.toFixed(3)} ± ${run.loss.sd.toFixed(3)}`,
      `${run.forgetting.mean.toFixed(3)} ± ${run.forgetting.sd.toFixed(3)}`,
      run.trainable.toLocaleString('en'),
      size(run.bytes),
      two(at ?? run.milliseconds / lora.milliseconds),
      two(bytes ?? run.peak / lora.peak),
      String(run.rate),
      claimOf(r),
    ]
  })
  return [
    `On mini: ${steps} steps of the same text, three seeds, the best of the rates ${grid.join(', ')} on a validation split (a recipe whose method lives at other rates says so in [claims/${family}](${relative(from, `claims/${family}`)})); ${machine}, ${date}.`,
    "Loss on held-out text of the task and forgetting (rise of the loss on text that mini wrote before) in nats a token, ± one deviation over the seeds; time of a step and most bytes of tensors over LoRA's, of four blocks of SmolLM2's width where `npm run bench -- adapters` measured them.",
    '',
    table(
      [
        'method',
        'loss',
        'forgetting',
        'trained numbers',
        'on disk',
        'time',
        'memory',
        'rate',
        "the paper's claim at this scale",
      ],
      cells.map((c) => c.map((v) => v.replaceAll('|', '\\|'))),
    ),
  ].join('\n')
}
