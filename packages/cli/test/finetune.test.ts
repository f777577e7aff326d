import { existsSync } from 'node:fs'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpu, memory } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { contents, llama3, losses, project, spawned, speaking, temporary, vocabulary, weft } from './weft.ts'

const run = (folder: string, ...more: string[]) =>
  weft(['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', ...more])
const rows = async (out: string): Promise<Record<string, number>[]> =>
  (await readFile(join(out, 'log.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>)

/** Ctrl-C once step `n` is shown */
const stopAt = (n: number) => {
  let sent = false
  return (text: string) => {
    if (sent || !text.includes(` ${n}/`)) return
    sent = true
    process.emit('SIGINT')
  }
}

describe('a run', () => {
  it('writes the adapter, run.json, log.jsonl and a plot, and says so as JSON', async () => {
    const folder = await project()
    const { code, out, err } = await run(folder, '--json')
    expect({ code, err }).toMatchObject({ code: 0 })
    const report = JSON.parse(out) as Record<string, unknown>
    const log = await rows(join(folder, 'out'))
    expect(report).toMatchObject({
      out: join(folder, 'out'),
      steps: 6,
      of: 6,
      interrupted: false,
      loss: log[5]!['loss'],
    })
    expect(report['files']).toEqual(['adapter_model.safetensors', 'adapter_config.json'])
    expect(log.map((r) => r['step'])).toEqual([1, 2, 3, 4, 5, 6])
    for (const row of log) {
      expect(row['tokens_per_second']).toBeGreaterThan(0)
      expect(row['peak_bytes']).toBeGreaterThan(100_000)
      expect(row['tensors']).toBe(log[0]!['tensors'])
    }
    expect(log[0]!['lr']).toBe(1e-3)
    const record = JSON.parse(await readFile(join(folder, 'out/run.json'), 'utf8'))
    expect(record).toMatchObject({
      command: 'finetune',
      settings: { train: { steps: 6, weight_decay: 0.01, schedule: 'cosine' }, data: { format: 'ids' } },
      backend: { name: 'cpu' },
      versions: { weft: expect.any(String), node: process.versions.node },
    })
    const svg = await readFile(join(folder, 'out/loss.svg'), 'utf8')
    expect(svg.match(/<polyline/g)).toHaveLength(2)
    expect(svg.match(/points="([^"]*)"/)![1]!.split(' ')).toHaveLength(6)
  })

  it('goes on from an adapter: the first loss is that of the adapter, which stays as it was', async () => {
    const folder = await project({ train: { steps: 4, batch: 2, length: 12, lr: 1e-2, schedule: 'constant' } })
    expect((await run(folder)).code).toBe(0)
    const before = await contents(join(folder, 'out'))
    const args = ['--set', 'adapters=[{ from: out }]', '--set', 'train.steps=1', '--out', join(folder, 'second')]
    expect((await run(folder, ...args)).code).toBe(0)
    expect(await contents(join(folder, 'out'))).toEqual(before)
    const ids = JSON.parse((await readFile(join(folder, 'ids.jsonl'), 'utf8')).split('\n')[0]!).input_ids as number[]
    const other = JSON.parse((await readFile(join(folder, 'ids.jsonl'), 'utf8')).split('\n')[1]!).input_ids as number[]
    const parts: number[] = []
    for (const list of [ids, other]) {
      const scored = await weft([
        'score',
        llama3,
        '--ids',
        list.join(),
        '--adapter',
        join(folder, 'out'),
        '--backend',
        'cpu',
        '--json',
      ])
      parts.push((JSON.parse(scored.out) as { loss: number }).loss)
    }
    expect(Number((await losses(join(folder, 'second')))[0])).toBeCloseTo((parts[0]! + parts[1]!) / 2, 4)
  })

  it('trains on a quantized base in less memory, and says so', async () => {
    const folder = await project({ train: { steps: 1, batch: 1, length: 4 } })
    await cpu()
    const peak = async (...more: string[]): Promise<number> => {
      const before = memory().numBytes
      const { code, err } = await run(folder, ...more)
      expect({ code, err }).toMatchObject({ code: 0 })
      if (more[1]) expect(err).toMatch(new RegExp(`base in ${more[1].slice(11)}: weights [\\d.]+ kB -> [\\d.]+ kB`))
      return (await rows(join(folder, 'out')))[0]!['peak_bytes']! - before
    }
    const dense = await peak()
    for (const codec of ['nf4', 'int8']) expect(await peak('--set', `base.codec=${codec}`)).toBeLessThan(dense)
  })

  it('keeps the matrices of a 16-bit checkpoint in 16 bits, and computes the same', async () => {
    const folder = await project({
      model: join(llama3, '../llama-sharded-bf16'),
      train: { steps: 2, batch: 1, length: 8 },
    })
    await cpu()
    const train = async (...more: string[]): Promise<{ peak: number; losses: number[] }> => {
      const before = memory().numBytes
      expect(await run(folder, ...more)).toMatchObject({ code: 0 })
      const log = await rows(join(folder, 'out'))
      return { peak: (log[0]!['peak_bytes'] as number) - before, losses: log.map((row) => row['loss'] as number) }
    }
    const whole = await train()
    const half = await train('--set', 'base.precision=checkpoint', '--restart')
    expect(half.peak).toBeLessThan(whole.peak)
    half.losses.forEach((loss, i) => {
      expect(loss).toBeCloseTo(whole.losses[i]!, 4)
    })
  })

  it('trains the whole model where trains says so, and writes a folder that scores lower', async () => {
    const folder = await project({
      adapters: [],
      trains: '**',
      train: { steps: 8, batch: 4, length: 12, lr: 3e-3, schedule: 'constant' },
    })
    const { code, out, err } = await run(folder, '--json')
    expect({ code, err }).toMatchObject({ code: 0 })
    expect((JSON.parse(out) as { files: string[] }).files).toEqual(
      expect.arrayContaining(['model.safetensors', 'config.json']),
    )
    const log = (await losses(join(folder, 'out'))).map(Number)
    expect(log[6]!).toBeLessThan(log[0]! - 0.5)
    const ids = JSON.parse((await readFile(join(folder, 'ids.jsonl'), 'utf8')).split('\n')[0]!).input_ids as number[]
    const loss = async (model: string): Promise<number> =>
      (
        JSON.parse((await weft(['score', model, '--ids', ids.join(), '--backend', 'cpu', '--json'])).out) as {
          loss: number
        }
      ).loss
    expect(await loss(join(folder, 'out'))).toBeLessThan((await loss(llama3)) - 0.5)
  })

  it('takes text, completion and chat, and measures on what is set aside', async () => {
    const model = await speaking({ length: 256 })
    const data = await temporary()
    const examples = new URL('../../../examples/data/', import.meta.url).pathname
    for (const [format, file] of [
      ['text', 'voice.txt'],
      ['completion', 'voice.completion.jsonl'],
      ['chat', 'voice.chat.jsonl'],
    ] as const) {
      const text = await readFile(join(examples, file), 'utf8')
      const cut = format === 'text' ? text.slice(0, 2000) : `${text.split('\n').slice(0, 8).join('\n')}\n`
      await writeFile(join(data, file), cut)
      const folder = await project({
        model,
        data: { path: join(data, file), format, validation: 0.25 },
        train: { steps: 2, batch: 1, length: 256, validate: 1 },
      })
      const { code, err } = await run(folder)
      expect({ code, err }).toMatchObject({ code: 0 })
      for (const row of await rows(join(folder, 'out'))) expect(row['validation']).toBeCloseTo(Math.log(vocabulary), 1)
      expect((await readFile(join(folder, 'out/loss.svg'), 'utf8')).match(/<circle/g)).toHaveLength(2)
    }
  })
})

it('train.recompute takes the same steps by another way', async () => {
  const of = (recompute: boolean) => ({
    adapters: [{ method: 'lora', at: 'blocks.*.attn.{q,v}', rank: 4, dropout: 0.2 }],
    train: { steps: 2, batch: 4, length: 24, lr: 1e-2, recompute },
  })
  const [kept, again] = [await project(of(false)), await project(of(true))]
  for (const folder of [kept, again]) expect((await run(folder)).code).toBe(0)
  const [a, b] = [await rows(join(kept, 'out')), await rows(join(again, 'out'))]
  a.forEach((row, i) => {
    expect(b[i]!['loss']).toBeCloseTo(row['loss'] as number, 4)
    expect(b[i]!['peak_bytes']).not.toBe(row['peak_bytes']) // fewer where there are more than two blocks
  })
})

describe('--resume', () => {
  it('goes on to the same losses, digit by digit, and the same adapter', async () => {
    const settings = {
      adapters: [{ method: 'lora', at: 'blocks.*.attn.{q,v}', rank: 4, dropout: 0.2 }],
      data: { path: 'ids.jsonl', format: 'ids', shuffle: true },
      train: { steps: 6, batch: 2, length: 12, lr: 1e-2, accumulate: 2, clip: 1, warmup: 2 },
    }
    const [straight, halved] = [await project(settings), await project(settings)]
    expect((await run(straight)).code).toBe(0)
    const stopped = await weft(['finetune', join(halved, 'run.yaml'), '--backend', 'cpu'], stopAt(3))
    expect(stopped.code).toBe(130)
    expect(stopped.err).toContain(
      `stopped after step 3 of 6; go on with: weft finetune ${join(halved, 'run.yaml')} --out`,
    )
    expect(await losses(join(halved, 'out'))).toHaveLength(3)
    expect(existsSync(join(halved, 'out/adapter_model.safetensors'))).toBe(false)
    const { code, err } = await run(halved, '--resume')
    expect({ code, err }).toMatchObject({ code: 0 })
    expect(await losses(join(halved, 'out'))).toEqual(await losses(join(straight, 'out')))
    const file = 'out/adapter_model.safetensors'
    expect((await readFile(join(halved, file))).equals(await readFile(join(straight, file)))).toBe(true)
    // once more: there is nothing left to do, and nothing changes
    const before = await contents(join(halved, 'out'))
    const again = await run(halved, '--resume')
    expect(again).toMatchObject({ code: 0, out: expect.stringContaining('was done at step 6') })
    expect(await contents(join(halved, 'out'))).toEqual(before)
  })

  it('refuses changed settings and data, by name, and a damaged checkpoint, which stay as they are', async () => {
    const folder = await project()
    const args = ['finetune', join(folder, 'run.yaml'), '--backend', 'cpu']
    expect((await weft(args, stopAt(2))).code).toBe(130)
    const before = await contents(join(folder, 'out'))
    for (const [set, said] of [
      ['train.lr=0.002', 'train.lr was 0.001, is 0.002'],
      ['train.steps=7', 'train.steps was 6, is 7'],
      ['adapters.0.rank=2', 'adapters.0.rank was 4, is 2'],
      ['train.clip=1', 'train.clip was not set, is 1'],
    ] as const) {
      const { code, err } = await run(folder, '--resume', '--set', set)
      expect(code).toBe(1)
      expect(err).toContain(`made with other settings: ${said}; go back to them`)
    }
    await writeFile(
      join(folder, 'ids.jsonl'),
      `${await readFile(join(folder, 'ids.jsonl'), 'utf8')}{"input_ids":[1,2,3]}\n`,
    )
    expect((await run(folder, '--resume')).err).toMatch(/data\.path had \d+ bytes, has \d+/)
    expect(await contents(join(folder, 'out'))).toEqual(before)
    // how often it is looked at may change
    await writeFile(
      join(folder, 'ids.jsonl'),
      (await readFile(join(folder, 'ids.jsonl'), 'utf8'))
        .split('\n')
        .slice(0, 12)
        .map((l) => `${l}\n`)
        .join(''),
    )
    const checkpoint = join(folder, 'out/checkpoint.safetensors')
    await truncate(checkpoint, 3000)
    const damaged = await contents(join(folder, 'out'))
    for (const more of [['--resume'], []]) {
      const { code, err } = await run(folder, ...more)
      expect(code).toBe(1)
      expect(err).toMatch(/checkpoint.*--restart/s)
    }
    expect(await contents(join(folder, 'out'))).toEqual(damaged)
    expect(await run(folder, '--restart', '--set', 'train.checkpoint=4')).toMatchObject({ code: 0 })
    expect(await losses(join(folder, 'out'))).toHaveLength(6)
  })

  it('a folder without a checkpoint starts at step 0 and says so; an unfinished one is not overwritten', async () => {
    const folder = await project()
    const first = await weft(['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', '--resume'], stopAt(2))
    expect(first).toMatchObject({
      code: 130,
      err: expect.stringContaining('no checkpoint to go on from; starting at step 0'),
    })
    const before = await contents(join(folder, 'out'))
    const again = await run(folder)
    expect(again).toMatchObject({
      code: 1,
      err: expect.stringContaining('holds a run that stopped at step 2 of 6; go on with --resume'),
    })
    expect(await contents(join(folder, 'out'))).toEqual(before)
    // a finished one may be done anew
    expect((await run(folder, '--resume')).code).toBe(0)
    const done = await losses(join(folder, 'out'))
    expect((await run(folder)).code).toBe(0)
    expect(await losses(join(folder, 'out'))).toEqual(done)
  })

  it('survives Ctrl-C of the terminal', async () => {
    const folder = await project({ train: { steps: 400, batch: 2, length: 12, checkpoint: 1000 } })
    let sent = false
    const args = ['finetune', join(folder, 'run.yaml'), '--backend', 'cpu']
    const stopped = await spawned(args, {
      onErr: (text, kill) => {
        if (sent || !text.includes(' 1/400')) return
        sent = true
        kill('SIGINT')
      },
    })
    expect(stopped.code).toBe(130)
    const n = (await losses(join(folder, 'out'))).length
    const file = await openSafetensors(await fromFile(join(folder, 'out/checkpoint.safetensors')))
    expect(file.metadata).toMatchObject({ step: String(n), of: '400' })
    await file.close()
    const onwards = await weft([...args, '--resume'], (text) => void (/ \d+\/400/.test(text) && process.emit('SIGINT')))
    expect(onwards.code).toBe(130)
    const log = await rows(join(folder, 'out'))
    expect(log.length).toBeGreaterThan(n)
    expect(log.map((r) => r['step'])).toEqual(log.map((_, i) => i + 1))
  })
})

it('a folder that cannot be written to is found before the model is read', async () => {
  const folder = await project()
  await writeFile(join(folder, 'file'), 'mine')
  for (const out of [join(folder, 'file'), join(folder, 'file/out')]) {
    const { code, err } = await run(folder, '--out', out)
    expect(code).toBe(1)
    expect(err).toMatch(/choose another path/)
    expect(err).not.toContain('backend')
  }
  expect(await readFile(join(folder, 'file'), 'utf8')).toBe('mine')
})
