/** `npm run claims -- FAMILY [NAME...] [--json] [--keep] [--resume] [--shard 1/2] [--seeds N]`: every method of a family, same data, steps and grid. */
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { best } from '@weftjs/tensor'
import { allMethods, type Family, families, type Method, root } from '../tools/source.ts'
import { ending, journal, keepTable, keptTable, made, spread } from './journal.ts'
import { GRID, type Lab, laboratory, type Result, SEEDS, STEPS } from './lab.ts'
import { heldOf } from './recipes.ts'
import type { Row, Table } from './table.ts'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    resume: { type: 'boolean', default: false },
    shard: { type: 'string' },
    seeds: { type: 'string', default: String(SEEDS.length) },
    model: { type: 'string' },
    text: { type: 'string' },
  },
})
const [family, ...names] = positionals
const own = families.filter((f) => f === 'quant' || existsSync(`${root}claims/${f}`))
if (!family || !own.includes(family as Family)) {
  console.error(
    `usage: npm run claims -- ${own.join('|')} [NAME...] [--json] [--keep] [--resume] [--shard 1/2] [--seeds N], and of quant [--model MODEL] [--text FILE]`,
  )
  process.exit(2)
}
const seeds = SEEDS.slice(0, Number(values.seeds))
if (!seeds.length || !Number.isInteger(Number(values.seeds))) {
  console.error(`--seeds takes 1 to ${SEEDS.length}, found '${values.seeds}'`)
  process.exit(2)
}
if (family === 'quant') {
  const { json, keep, resume, text, model = 'mini' } = values
  const { run } = await import('./quant-run.ts')
  process.exit(await run({ names, seeds, json, keep, resume, text, model }))
}
const [part = 1, parts = 1] = (values.shard ?? '1/1').split('/').map(Number)
if (!(part >= 1 && part <= parts)) {
  console.error(`--shard takes 1/2 or 2/2, found '${values.shard}'`)
  process.exit(2)
}

// another shard may be at work on the same file
const known = journal(family, { anew: !values.resume && part === 1 })

let status = ''
const show = (text: string, last = false): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}${last ? '\n' : ''}`)
  else if (last) console.error(text)
  status = text
}
const end = ending(() => status)

const measure = async (method: Method, lab: Lab): Promise<Row> => {
  const { recipe, claim } = await heldOf(method)
  const row = {
    ...{ method: method.name, paper: method.paper, metric: null, mean: null, sd: null, seeds: seeds.length },
    ...{ claim: null, holds: null, run: null },
  }
  try {
    let run: Row['run'] = null
    if (recipe) {
      const all: Result[] = []
      for (const seed of seeds) all.push(await lab.run(recipe, { seed }))
      const [first] = all as [Result, ...Result[]]
      // what it costs, on the machine as it is now: other runs may have been kept from a busy one
      const again = { seed: 0, rate: first.rate, again: true } as const
      const { milliseconds, peak } = await lab.run(recipe, { ...again, steps: 8 }).catch(() => lab.run(recipe, again)) // a schedule may need more steps
      run = {
        rate: first.rate,
        loss: spread(all.map((r) => r.loss)),
        forgetting: spread(all.map((r) => r.forgetting)),
        milliseconds,
        peak,
        trainable: first.trainable,
        bytes: first.bytes,
      }
    }
    if (!claim) return { ...row, run }
    const margins: number[] = []
    for (const seed of seeds) {
      const key = `claim ${method.name} ${seed}`
      if (!known.has(key)) known.set(key, await claim.margin(seed, lab))
      margins.push(known.get(key) as number)
    }
    return {
      ...{ ...row, run, metric: claim.metric, ...spread(margins), claim: claim.says },
      holds: margins.every((m) => m > 0),
      ...(claim.note && { note: claim.note }),
    }
  } catch (error) {
    return { ...row, error: (error as Error).message.slice(0, 300) }
  }
}

const chosen = allMethods().filter((m) => m.family === family && (!names.length || names.includes(m.name)))
const odd = names.find((n) => !chosen.some((m) => m.name === n))
if (odd !== undefined) {
  console.error(`there is no method '${odd}' in ${family}; weft list ${family} names them`)
  process.exit(2)
}
const backend = await best()
const lab = await laboratory({
  recall: (key) => {
    if (end.asked) throw new Error('stopped')
    return known.get(key) as Result | undefined
  },
  remember: known.set,
  onStep: (what, step, steps, loss) => show(`${what}: ${step}/${steps} loss ${loss.toFixed(3)}`),
})
const rows: Row[] = []
const began = performance.now()
for (const [i, method] of chosen.entries()) {
  if (end.asked) break
  if (i % parts !== part - 1) continue
  known.refresh() // another shard may have run what this method is compared with
  const row = await measure(method, lab)
  if (end.asked && row.error) break // it is not whole
  rows.push(row)
  const { run, error } = row
  const left = ((performance.now() - began) / rows.length) * (chosen.length / parts - rows.length)
  show(
    `${rows.length}/${Math.ceil(chosen.length / parts)} ${row.method.padEnd(18)} ${
      error ??
      [
        run &&
          `loss ${run.loss.mean.toFixed(3)} ± ${run.loss.sd.toFixed(3)}  forgetting ${run.forgetting.mean.toFixed(3)}  rate ${run.rate}  ${run.trainable} numbers  ${run.milliseconds.toFixed(0)} ms`,
        row.claim &&
          `claim ${row.holds ? 'holds' : 'does not show'}: ${row.mean!.toFixed(4)} ± ${row.sd!.toFixed(4)} ${row.metric}`,
      ]
        .filter(Boolean)
        .join('; ')
    }; ${Math.round(left / 60000)} min left`,
    true,
  )
}
const table: Table = {
  name: family,
  ...made(backend),
  steps: STEPS,
  grid: GRID,
  rows,
}
if (values.keep) {
  // what was not run now stays as it was kept
  const old = keptTable<Table>(family)?.rows ?? []
  const all = [...old.filter((o) => !rows.some((r) => r.method === o.method)), ...rows]
  const order = new Map(allMethods().map((m, i) => [m.name, i]))
  const kept: Table = { ...table, rows: all.sort((a, b) => (order.get(a.method) ?? 0) - (order.get(b.method) ?? 0)) }
  keepTable(kept)
}
if (values.json) console.log(JSON.stringify(table))
process.exitCode = end.asked ? 130 : rows.some((r) => r.error) ? 1 : 0
