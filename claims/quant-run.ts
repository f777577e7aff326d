import { basename } from 'node:path'
import { best } from '@weftjs/tensor'
import { ending, journal, keepTable, keptTable, made, tablePath } from './journal.ts'
import { compare, ENTRIES, type Measured, nameOf, type QuantLab, quantLab } from './quant.ts'
import { TRAINED, trainingRows } from './quant-training.ts'
import type { QuantRow, QuantTable, TrainingRow } from './table.ts'

export interface QuantRunOptions {
  readonly names: readonly string[]
  readonly seeds: readonly number[]
  /** mini, a folder, a GGUF file or a name on the hub */
  readonly model: string
  /** held-out text; by default the model writes its own */
  readonly text: string | undefined
  readonly keep: boolean
  /** goes on with what an earlier comparison of this model has measured */
  readonly resume: boolean
  readonly json: boolean
}

/** `npm run claims -- quant [CODEC|METHOD...] [--model MODEL] [--text FILE] [--json] [--keep] [--resume] [--seeds N]` → exit code */
export const run = async ({ names, seeds, model, text, keep, resume, json }: QuantRunOptions): Promise<number> => {
  const all = ENTRIES.map((e) => nameOf(e.codec))
  const odd = names.find((n) => !all.includes(n) && !TRAINED.includes(n))
  if (odd !== undefined) {
    console.error(`there is no '${odd}' in the comparison; there are ${[...all, ...TRAINED].join(', ')}`)
    return 2
  }
  const formats = names.filter((n) => all.includes(n))
  // what trains does so on mini
  const trained = names.length ? names.filter((n) => TRAINED.includes(n)) : model === 'mini' ? TRAINED : []
  const name = basename(model)
  let status = 'opening the model'
  const end = ending(() => status)
  const backend = await best()
  const lab = await quantLab(model, text)
  const compared = formats.length > 0 || !names.length
  const known = journal(`quant-${name}`, { anew: !resume && compared })
  const measure: QuantLab['measure'] = async (codec, seed) => {
    status = `${nameOf(codec)} seed ${seed}`
    const key = JSON.stringify([nameOf(codec), seed, text ?? null])
    if (!known.has(key)) known.set(key, await lab.measure(codec, seed))
    return known.get(key) as Measured
  }
  /** results of other models, and of what was not run now, stay */
  const old = keep ? keptTable<QuantTable>('quant') : null
  const order = new Map(ENTRIES.map((e, i) => [nameOf(e.codec), i]))
  const tableOf = (rows: readonly QuantRow[], training: readonly TrainingRow[] = []): QuantTable => {
    const learned = new Set(training.map((r) => r.method))
    const fresh = new Set(rows.map((r) => r.method))
    const others = (old?.rows ?? []).filter((r) => r.model !== name || !fresh.has(r.method))
    return {
      ...{ name: 'quant', ...(rows.length || !old ? made(backend) : { date: old.date, machine: old.machine }) },
      models: { ...old?.models, [name]: { weights: lab.weights } },
      rows: [...others, ...rows].sort(
        (a, b) => a.model.localeCompare(b.model) || (order.get(a.method) ?? 99) - (order.get(b.method) ?? 99),
      ),
      training: [...(old?.training ?? []).filter((r) => !learned.has(r.method)), ...training],
    }
  }
  const began = performance.now()
  const done: QuantRow[] = []
  const onRow = (row: QuantRow, n: number, of: number): void => {
    done.push(row)
    if (keep) keepTable(tableOf(done))
    console.error(
      `${n}/${of} ${said(row)}; ${Math.round((((performance.now() - began) / n) * (of - n)) / 1000)} s left`,
    )
  }
  const stopped = (): boolean => end.asked
  const rows = compared
    ? await compare({ ...lab, model: name, measure }, seeds, { names: formats, stopped, onRow })
    : []
  const onStatus = (text: string): void => {
    status = text
  }
  const training = await trainingRows({ ...{ names: trained, seeds, resume, stopped, onStatus }, onRow: sayTraining })
  if (keep && training.length) keepTable(tableOf(rows, training))
  if (keep && (rows.length || training.length))
    console.error(`kept in ${tablePath('quant')}; npm run generate draws the table and the plot`)
  if (json) console.log(JSON.stringify({ ...tableOf(rows), rows, training }))
  return end.asked ? 130 : rows.some((r) => r.error) ? 1 : 0
}

const said = ({ method, run, error, claim, holds, mean, sd }: QuantRow): string => {
  const found = run
    ? `${run.bits.toFixed(3)} bits  KL ${run.kl.mean.toFixed(4)} ± ${run.kl.sd.toFixed(4)}  perplexity ${run.perplexity.mean.toFixed(2)}  ${run.seconds?.toFixed(2)} s`
    : error
  const shown =
    claim && run ? `; claim ${holds ? 'holds' : 'does not show'}: ${mean!.toFixed(4)} ± ${sd!.toFixed(4)}` : ''
  return `${method.padEnd(28)} ${found}${shown}`
}
const sayTraining = ({ method, claim, holds, mean, sd, metric }: TrainingRow): void =>
  console.error(
    `${method.padEnd(28)} ${claim}: ${holds ? 'holds' : 'does not show'}: ${mean.toFixed(4)} ± ${sd.toFixed(4)} ${metric}`,
  )
