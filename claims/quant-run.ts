import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { basename } from 'node:path'
import { best } from '@weftjs/tensor'
import { root } from '../tools/source.ts'
import { compare, ENTRIES, nameOf, quantLab } from './quant.ts'
import type { QuantTable } from './table.ts'

export interface QuantRunOptions {
  readonly names: readonly string[]
  readonly seeds: readonly number[]
  /** mini, a folder, a GGUF file or a name on the hub */
  readonly model: string
  /** held-out text; by default the model writes its own */
  readonly text: string | undefined
  readonly keep: boolean
  readonly json: boolean
}

/** `npm run claims -- quant [CODEC...] [--model MODEL] [--text FILE] [--json] [--keep] [--seeds N]` → exit code */
export const run = async ({ names, seeds, model, text, keep, json }: QuantRunOptions): Promise<number> => {
  const odd = names.find((n) => !ENTRIES.some((e) => nameOf(e.codec) === n))
  if (odd !== undefined) {
    console.error(`there is no '${odd}' in the comparison; there are ${ENTRIES.map((e) => nameOf(e.codec)).join(', ')}`)
    return 2
  }
  const backend = await best()
  const lab = await quantLab(model, text)
  const began = performance.now()
  const name = basename(model)
  const rows = await compare({ ...lab, model: name }, seeds, {
    names,
    onRow: (row, done, of) => {
      const { run, error } = row
      const left = ((performance.now() - began) / done) * (of - done)
      console.error(
        `${done}/${of} ${row.method.padEnd(28)} ${
          error ??
          `${run!.bits.toFixed(3)} bits  KL ${run!.kl.mean.toFixed(4)} ± ${run!.kl.sd.toFixed(4)}  perplexity ${run!.perplexity.mean.toFixed(2)}  ${run!.seconds.toFixed(2)} s${
            row.claim
              ? `; claim ${row.holds ? 'holds' : 'does not show'}: ${row.mean!.toFixed(4)} ± ${row.sd!.toFixed(4)}`
              : ''
          }`
        }; ${Math.round(left / 1000)} s left`,
      )
    },
  })
  const path = 'claims/results/quant.json'
  // results of other models, and of formats that were not run now, stay
  const old: Partial<QuantTable> =
    keep && existsSync(`${root}${path}`) ? (JSON.parse(readFileSync(`${root}${path}`, 'utf8')) as QuantTable) : {}
  const fresh = new Set(rows.map((r) => r.method))
  const others = (old.rows ?? []).filter((r) => r.model !== name || !fresh.has(r.method))
  const order = new Map(ENTRIES.map((e, i) => [nameOf(e.codec), i]))
  const table: QuantTable = {
    name: 'quant',
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads, ${backend.name}`,
    models: { ...old.models, [name]: { weights: lab.weights } },
    rows: [...others, ...rows].sort(
      (a, b) => a.model.localeCompare(b.model) || (order.get(a.method) ?? 99) - (order.get(b.method) ?? 99),
    ),
  }
  if (keep) {
    mkdirSync(`${root}claims/results`, { recursive: true })
    writeFileSync(`${root}${path}`, `${JSON.stringify(table, null, 1)}\n`)
    console.error(`kept in ${path}; npm run generate draws the table and the plot`)
  }
  if (json) console.log(JSON.stringify({ ...table, rows }))
  return rows.some((r) => r.error) ? 1 : 0
}
