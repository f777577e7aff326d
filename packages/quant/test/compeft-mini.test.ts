import { readFile } from 'node:fs/promises'
import { prepare, text } from '@weftjs/data'
import { lora } from '@weftjs/lora'
import { loadMini } from '@weftjs/mini'
import { attach, inputsOf, nextToken } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Batch, Params } from '@weftjs/spec'
import { clone, countParams, keep, mapParams, rng, tidy, wasm } from '@weftjs/tensor'
import { expect, it } from 'vitest'
import { fromCompeft, readCompeft, toCompeft } from '../src/compeft/file.ts'
import { sweepCompeft } from '../src/compeft/sweep.ts'
import { ternaryDot } from '../src/compeft/ternary.ts'

const SHARES = [0.1, 0.2, 0.3]

/** The paper's task: an adapter of a real model, on text it has not seen. */
it('a LoRA of mini becomes many times smaller than its 16 bits, and keeps most of what it learned', async () => {
  await wasm()
  const { network, tokenizer } = await loadMini()
  const tuned = attach(network, [{ adapter: lora({ rank: 8 }), at: 'blocks.*.attn.{q,v}' }], rng(0))
  const rows = text(await readFile(new URL('../../../examples/data/voice.txt', import.meta.url)))
  const data = prepare(rows, { format: 'text', tokenizer, length: 64, batch: 4, rng: rng(0) })
  const validation: Batch[] = []
  const test: Batch[] = []
  const training: Batch[] = []
  for await (const b of data.batches()) {
    const into = validation.length < 2 ? validation : test.length < 4 ? test : training
    into.push(b)
    if (training.length === 60) break
  }
  const loss = async (params: Params, batches: readonly Batch[]): Promise<number> => {
    let sum = 0
    for (const b of batches) {
      const t = tidy(() => nextToken(tuned.run(params, inputsOf(b)), b))
      sum += (await t.data())[0]!
      t.dispose()
    }
    return sum / batches.length
  }
  let params = tuned.params
  for await (const s of train({
    params: tuned.params,
    data: training,
    loss: (p, b) => nextToken(tuned.run(p, inputsOf(b), { training: true }), b),
    transform: adamw({ lr: 4e-3 }),
  }))
    params = tidy(() => mapParams(s.params, (t) => keep(clone(t))))
  const halves = 2 * countParams(params)
  const [before, after] = [await loss(tuned.params, test), await loss(params, test)]
  // A begins random: its task vector, raw A and B as in the paper, is mostly where it began
  const report: string[] = [`test loss ${before.toFixed(3)} → ${after.toFixed(3)} by ${halves} bytes in 16 bits`]
  const ways = { 'raw A and B': {}, 'from where they began': { base: tuned.params } }
  const left: Record<string, number> = {}
  for (const [name, how] of Object.entries(ways)) {
    const { rows } = await sweepCompeft(params, (p) => loss(p, validation), {
      keeps: SHARES,
      alphas: [1, 2, 3],
      ...how,
    })
    for (const keep of SHARES) {
      const best = rows.find((r) => r.keep === keep)!
      const file = await toCompeft(params, { keep, alpha: best.alpha, ...how })
      const found = await loss(fromCompeft(file, how), test)
      left[`${name} ${keep}`] = (before - found) / (before - after)
      report.push(
        `${name}, k ${keep} α ${best.alpha}: ${file.length} bytes, ${(halves / file.length).toFixed(1)} times smaller, loss ${found.toFixed(3)}`,
      )
      if (keep === 0.1) expect(halves / file.length).toBeGreaterThan(15)
    }
  }
  console.info(report.join('\n'))
  expect(after).toBeLessThan(before - 0.5)
  expect(Math.max(...Object.values(left))).toBeGreaterThan(0.5)
  // two updates of the same places are compared without becoming numbers again
  const { ternary } = readCompeft(await toCompeft(params, { keep: 0.1, base: tuned.params }))
  expect(ternaryDot(ternary, ternary)).toBeGreaterThan(0)
}, 300_000)
