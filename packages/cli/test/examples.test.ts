import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { readFinetune } from '../src/runfile.ts'
import { speaking, temporary, weft } from './weft.ts'

const examples = fileURLToPath(new URL('../../../examples/', import.meta.url))
const files = (await readdir(examples)).filter((f) => f.endsWith('.yaml'))

it('there are examples of text, completion and chat', () => {
  expect(files).toEqual(expect.arrayContaining(['voice.yaml', 'voice.chat.yaml', 'voice.completion.yaml']))
})

it.each(files)('%s is a run file that trains, here on a tiny model', async (name) => {
  const { settings, find } = await readFinetune(join(examples, name), [])
  expect(settings.model).toBe('mini')
  for (const path of [settings.data.path].flat())
    expect((await stat(await find(path, 'data.path'))).size).toBeGreaterThan(1000)
  const out = await temporary()
  const model = await speaking({ length: 256 })
  const small = [
    `model=${model}`,
    'train.steps=2',
    'train.batch=1',
    'train.length=256',
    'data.validation=0',
    'adapters.0.rank=4',
  ]
  if (settings.train.decay) small.push('train.decay=1', 'train.warmup=0')
  const sets = small.flatMap((s) => ['--set', s])
  const { code, err } = await weft(['finetune', join(examples, name), '--backend', 'cpu', '--out', out, ...sets])
  expect({ code, err: code ? err : '' }).toEqual({ code: 0, err: '' })
  // a warm-up that is longer than the run is allowed, and said
  expect(err.includes('the rate never reaches train.lr')).toBe(settings.train.decay === undefined)
  expect(await readdir(out)).toEqual(
    expect.arrayContaining(['adapter_model.safetensors', 'loss.svg', 'log.jsonl', 'run.json']),
  )
})
