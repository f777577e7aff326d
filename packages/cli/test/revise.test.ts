import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { attach, type Tuned } from '@weftjs/model'
import type { Adapter, Batch, Network, Revision, Tensor, Tensor2D } from '@weftjs/spec'
import { concat, cpu, mul, rng, tensor, zeros } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { lowRank, scale, sum } from '@weftjs/weight'
import { describe, expect, it, vi } from 'vitest'
import type { TrainSettings } from '../src/schema.ts'
import { type Outcome, runTraining } from '../src/session.ts'
import { losses, temporary } from './weft.ts'

/** W + s·B·A, one rank more after each second step; s falls by a tenth with each step, and is fixed */
const growing = (): Adapter<Record<string, Tensor>> => ({
  name: 'growing',
  init: ({ weight }, { rng }) => ({
    state: { a: rng.normal([1, weight!.shape[1]]), b: zeros([weight!.shape[0], 1]), s: tensor(1) },
    trains: ['a', 'b'],
  }),
  weight: (base, { a, b, s }) => sum(base, scale(s!, lowRank(b! as Tensor2D, a! as Tensor2D))),
  revise: (sites, { step, rng }) =>
    Object.fromEntries(
      Object.entries(sites).map(([name, { state }]): [string, Revision<Record<string, Tensor>>] => {
        const { a, b, s } = state
        const more = (t: Tensor): Tensor => concat([t, zeros([1, t.shape[1]!])], 0)
        const wider = (t: Tensor): Tensor => concat([t, zeros([t.shape[0]!, 1])], 1)
        const grown = { a: concat([a!, rng.fork(name).normal([1, a!.shape[1]!])], 0), b: wider(b!) }
        return [
          name,
          { state: { s: mul(s!, 0.9), ...(step % 2 === 0 && grown) }, moments: step % 2 ? {} : { a: more, b: wider } },
        ]
      }),
    ),
})

const batches = (skip: number): AsyncIterable<Batch> =>
  (async function* () {
    for (let i = skip; i < 20; i++) {
      const ids = Int32Array.from({ length: 16 }, (_, k) => (k * 7 + i) % 24)
      const targets = ids.map((_, k) => (k % 8 === 7 ? -100 : ids[k + 1]!))
      yield {
        shape: [2, 8],
        ids,
        targets,
        positions: ids.map((_, k) => k % 8),
        segments: new Int32Array(16).fill(1),
      }
    }
  })()

const train: TrainSettings = {
  ...{ steps: 8, batch: 2, length: 8, lr: 0.02, optimizer: 'adamw', schedule: 'cosine', warmup: 0 },
  ...{ betas: [0.9, 0.999], momentum: 0, weight_decay: 0.01, accumulate: 1, clip: 1, seed: 5, checkpoint: 100 },
} as never

const quiet = async <T>(f: () => Promise<T>, onErr: (text: string) => void = () => {}): Promise<T> => {
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    onErr(String(text))
    return true
  })
  try {
    return await f()
  } finally {
    spy.mockRestore()
  }
}
const run = async (out: string, resume: boolean, stop?: number): Promise<Outcome> => {
  const backend = await cpu()
  const network: Network<any> = tinyLlama(rng(1))
  const tuned: Tuned = attach(network, [{ adapter: growing(), at: 'blocks.*.attn.{q,v}' }], rng(2))
  let sent = false
  return quiet(
    () =>
      runTraining({
        command: 'finetune',
        ...{ tuned, out, backend, resume, batches },
        identity: { settings: { out, train }, bytes: 0 },
        restart: false,
        profile: false,
        validation: [],
      }),
    (text) => {
      if (stop === undefined || sent || !text.includes(` ${stop}/`)) return
      sent = true
      process.emit('SIGINT')
    },
  )
}
const logits = ({ tuned, params }: Outcome): Float32Array =>
  tuned.forward(params, { ids: tensor([1, 2, 3], [1, 3], 'int32') }).logits.dataSync() as Float32Array

describe('a run with an adapter that revises itself', () => {
  it('resumes to the same numbers: grown shapes, moments and fixed tensors are kept', async () => {
    const [whole, halved] = [await temporary(), await temporary()]
    const straight = await run(whole, false)
    expect(straight.params['blocks.0.attn.q.growing.a']!.shape).toEqual([5, 16])
    const [s] = await straight.tuned.constants['blocks.0.attn.q.growing.s']!.data()
    expect(s).toBeCloseTo(0.9 ** 8, 5)
    expect((await run(halved, false, 5)).interrupted).toBe(true)
    const rest = await run(halved, true)
    expect(await losses(halved)).toEqual(await losses(whole))
    expect(logits(rest)).toEqual(logits(straight))
    // once more with nothing left to do: the same model
    expect(logits(await run(halved, true))).toEqual(logits(straight))
  })

  it('keeps the count of tensors flat', async () => {
    const out = await temporary()
    await run(out, false)
    const rows = (await readFile(join(out, 'log.jsonl'), 'utf8')).trim().split('\n')
    expect(new Set(rows.map((r) => (JSON.parse(r) as { tensors: number }).tensors)).size).toBe(1)
  })
})
