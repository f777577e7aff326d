import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { losses, speaking, temporary, tinyConfig, vocabulary, weft } from './weft.ts'

const config = tinyConfig
const examples = fileURLToPath(new URL('../../../examples/', import.meta.url))

const project = async (more: Record<string, unknown> = {}): Promise<string> => {
  const folder = await temporary()
  const text = await readFile(join(examples, 'data/voice.txt'), 'utf8')
  await writeFile(join(folder, 'book.txt'), text.slice(0, 1500))
  await writeFile(join(folder, 'other.txt'), text.slice(3000, 3200))
  await writeFile(
    join(folder, 'run.yaml'),
    JSON.stringify({
      config,
      tokenizer: await speaking(),
      data: { path: 'book.txt', format: 'text' },
      validation: { path: 'other.txt' },
      train: { steps: 6, batch: 2, length: 32, lr: 2e-2, schedule: 'constant', validate: 3, accumulate: 2 },
      out: join(folder, 'out'),
      ...more,
    }),
  )
  return folder
}
const run = (folder: string, ...more: string[]) =>
  weft(['pretrain', join(folder, 'run.yaml'), '--backend', 'cpu', ...more])

describe('pretrain', () => {
  it('learns, measures on another file, and writes a folder that runs', async () => {
    const folder = await project({ dtype: 'BF16' })
    const { code, out, err } = await run(folder, '--json')
    expect({ code, err }).toMatchObject({ code: 0 })
    const report = JSON.parse(out) as { validation: number; loss: number; files: string[] }
    const log = (await losses(join(folder, 'out'))).map(Number)
    expect(log[0]).toBeCloseTo(Math.log(vocabulary), 1)
    expect(log[5]!).toBeLessThan(log[0]! - 0.3)
    expect(report.loss).toBe(log[5])
    expect(report.validation).toBeLessThan(Math.log(vocabulary))
    const rows = (await readFile(join(folder, 'out/log.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l))
    expect(rows.map((r) => r.step * (r.validation ? 1 : 0))).toEqual([0, 0, 3, 0, 0, 6])
    expect(report.files).toEqual(expect.arrayContaining(['model.safetensors', 'config.json', 'tokenizer.json']))
    const scored = await weft(['score', join(folder, 'out'), '--text', 'Hear the cat.', '--backend', 'cpu', '--json'])
    expect((JSON.parse(scored.out) as { loss: number }).loss).toBeLessThan(Math.log(vocabulary))
  })

  it('goes on to the same losses and the same file after Ctrl-C', async () => {
    const [straight, halved] = [await project(), await project()]
    // the tokenizer's folder is a setting
    await writeFile(
      join(halved, 'run.yaml'),
      (await readFile(join(straight, 'run.yaml'), 'utf8')).replaceAll(straight, halved),
    )
    expect((await run(straight)).code).toBe(0)
    let sent = false
    const stopped = await weft(['pretrain', join(halved, 'run.yaml'), '--backend', 'cpu'], (text) => {
      if (sent || !text.includes(' 2/6')) return
      sent = true
      process.emit('SIGINT')
    })
    expect(stopped.code).toBe(130)
    expect(await readdir(join(halved, 'out'))).not.toContain('model.safetensors')
    expect((await run(halved, '--resume')).code).toBe(0)
    expect(await losses(join(halved, 'out'))).toEqual(await losses(join(straight, 'out')))
    const file = 'out/model.safetensors'
    expect((await readFile(join(halved, file))).equals(await readFile(join(straight, file)))).toBe(true)
  })

  it('takes a config.json by its path, and says what is wrong with it or with the tokenizer', async () => {
    const folder = await project()
    const path = join(folder, 'config.json')
    const fails = async (content: string, said: RegExp): Promise<void> => {
      await writeFile(path, content)
      const { code, err } = await run(folder, '--set', `config=${path}`, '--set', 'train.steps=1')
      expect(code).toBe(1)
      expect(err).toMatch(said)
      expect(await readdir(folder)).toEqual(expect.not.arrayContaining(['model.safetensors']))
    }
    await fails('{', /config\.json: not valid JSON \(.*\); correct it/)
    await fails(JSON.stringify({ ...config, model_type: 'mamba', architectures: ['Mamba'] }), /mamba/i)
    await fails(JSON.stringify({ ...config, hidden_size: 'wide' }), /hidden_size/)
    await fails(
      JSON.stringify({ ...config, vocab_size: 100 }),
      /the tokenizer does not match the model: it has 256 tokens and the llama embedding 100 rows/,
    )
    await fails(
      JSON.stringify({ ...config, max_position_embeddings: 16 }),
      /train\.length: 32 tokens are more than the 16/,
    )
    await writeFile(path, JSON.stringify(config))
    expect((await run(folder, '--set', `config=${path}`, '--set', 'train.steps=1')).code).toBe(0)
  })
})
