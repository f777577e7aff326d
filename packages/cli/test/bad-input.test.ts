import { cp, mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { contents, fixtures, llama3, project, speaking, temporary, weft } from './weft.ts'

const adapter = join(fixtures, 'peft/lora-qv')
const cpu = ['--backend', 'cpu']

/** the command fails with this message, and every file under the folder is as it was */
const fails = async (folder: string, args: readonly string[], said: RegExp | string, code = 1): Promise<string> => {
  const before = await contents(folder)
  const result = await weft([...args, ...cpu])
  expect({ code: result.code, out: result.out }).toEqual({ code, out: '' })
  if (typeof said === 'string') expect(result.err).toContain(said)
  else expect(result.err).toMatch(said)
  expect(result.err).not.toMatch(/\bat .*\.ts:\d+|undefined|\[object/)
  expect(await contents(folder)).toEqual(before)
  return result.err
}
/** a finished run, so that there is something to damage */
const finished = async (): Promise<{ folder: string; run: (...more: string[]) => string[] }> => {
  const folder = await project({ train: { steps: 1, batch: 2, length: 12 } })
  const run = (...more: string[]): string[] => ['finetune', join(folder, 'run.yaml'), ...more]
  const { code } = await weft([...run(), ...cpu])
  expect(code).toBe(0)
  return { folder, run }
}
const set = (value: string): string[] => ['--set', value]

describe('a missing file', () => {
  it('run file, data, model, adapter, tokenizer, text', async () => {
    const { folder, run } = await finished()
    await fails(folder, ['finetune', join(folder, 'no.yaml')], 'no.yaml: there is no such run file; check the path')
    await fails(
      folder,
      run(...set('data.path=no.jsonl')),
      /run\.yaml: data\.path: there is no .*no\.jsonl; correct the path/,
    )
    await fails(folder, run(...set('data.path=[ids.jsonl, no.jsonl]')), /data\.path\.1: there is no .*no\.jsonl/)
    await fails(folder, run(...set('model=./no')), /run\.yaml: model: there is no .*\/no; correct the path/)
    await fails(
      folder,
      run(...set('adapters=[{from: no}]')),
      /adapters\.0\.from: there is no .*\/no and no .*\/no; correct the path/,
    )
    await fails(folder, ['score', join(folder, 'no'), '--ids', '1'], /no: no such folder, and no name on the hub/)
    await fails(folder, ['score', folder, '--ids', '1'], /config\.json/)
    await fails(
      folder,
      ['score', llama3, '--ids', '1', '--adapter', join(folder, 'no')],
      /no: there is no such adapter; check the path/,
    )
    await fails(folder, ['score', llama3, '--text', 'a'], /llama3: no tokenizer\.json; copy it/)
    const model = await speaking()
    await fails(
      folder,
      ['score', model, '--file', join(folder, 'no.txt')],
      /no\.txt: no such file or folder; check the path/,
    )
    await fails(
      folder,
      ['fold', llama3, '--adapter', join(folder, 'no'), '--out', join(folder, 'out')],
      /no: there is no such adapter; check the path/,
    )
    await fails(
      folder,
      ['merge', join(folder, 'no.yaml'), join(folder, 'out')],
      /no\.yaml: there is no such recipe; check the path/,
    )
    const inspected = await weft(['inspect', join(folder, 'no')])
    expect(inspected).toMatchObject({ code: 1, err: expect.stringContaining('no such folder') })
    expect((await weft(['inspect', join(folder, 'run.yaml')])).err).toContain(
      'not a safetensors file; name one, or a folder',
    )
  })
})

describe('a truncated checkpoint', () => {
  it('of a model, of an adapter', async () => {
    const { folder, run } = await finished()
    const model = join(folder, 'model')
    await cp(llama3, model, { recursive: true })
    for (const length of [0, 7, 500, 20_000]) {
      await truncate(join(model, 'model.safetensors'), length)
      const said = /model\/model\.safetensors: .+/
      await fails(folder, run(...set(`model=${model}`)), said)
      await fails(folder, ['score', model, '--ids', '1'], said)
      await fails(folder, ['quantize', model, join(folder, 'out'), '--codec', 'nf4'], said)
      await fails(folder, ['fold', model, '--adapter', adapter, '--out', join(folder, 'out')], said)
      expect((await weft(['inspect', model])).code).toBe(1)
      await cp(join(llama3, 'model.safetensors'), join(model, 'model.safetensors'))
    }
    const cut = join(folder, 'cut')
    await cp(adapter, cut, { recursive: true })
    await truncate(join(cut, 'adapter_model.safetensors'), 1000)
    await fails(folder, run(...set(`adapters=[{from: ${cut}}]`)), /cut\/adapter_model\.safetensors: /)
    await fails(folder, ['score', llama3, '--ids', '1', '--adapter', cut], /cut\/adapter_model\.safetensors: /)
    await writeFile(join(cut, 'adapter_config.json'), '{"peft_type": "LORA", "r": "eight"}')
    await fails(
      folder,
      ['score', llama3, '--ids', '1', '--adapter', cut],
      /adapter_config\.json: r must be a whole number of at least 1, found "eight"/,
    )
  })
})

describe('what does not fit together', () => {
  it('an adapter for another model', async () => {
    const { folder, run } = await finished()
    const other = join(fixtures, 'models/qwen3')
    const said = /belongs to another model/
    await fails(folder, ['score', other, '--ids', '1', '--adapter', adapter], said)
    await fails(folder, ['fold', other, '--adapter', adapter, '--out', join(folder, 'out')], said)
    await fails(folder, run(...set(`adapters=[{from: ${adapter}}]`), ...set(`model=${other}`)), said)
    const encoder = join(fixtures, 'models/gpt2')
    await fails(folder, ['generate', encoder, '--ids', '1', '--adapter', adapter], /q_proj/)
  })

  it('a rank larger than the matrix', async () => {
    const { folder, run } = await finished()
    await fails(
      folder,
      run(...set('adapters.0.rank=64')),
      /blocks\.0\.attn\.q: rank 64 exceeds min\(48, 48\); lower rank or narrow "at"/,
    )
  })

  it('a place that the model does not have', async () => {
    const { folder, run } = await finished()
    await fails(folder, run(...set('adapters.0.at=blocks.*.attention.q')), /blocks\.\*\.attention\.q/)
    await fails(folder, run(...set('adapters=[]'), ...set('trains=nothing')), /nothing/)
    await fails(
      folder,
      run(...set('base={codec: nf4, at: nothing}')),
      /at: no site matches "nothing"; nearest are norm, head/,
    )
    await fails(folder, run(...set('base.codec=int7')), /base\.codec: there is no codec 'int7'; did you mean int\d\?/)
    await fails(
      folder,
      run(...set('adapters.0.method=dorra')),
      /adapters\.0\.method: there is no 'dorra'; (did you mean|there are) .*A package of that name is not installed/,
    )
  })

  it('a tokenizer of another model', async () => {
    const { folder, run } = await finished()
    const model = join(folder, 'model')
    await cp(llama3, model, { recursive: true })
    await cp(join(await speaking(), 'tokenizer.json'), join(model, 'tokenizer.json'))
    const said =
      /the tokenizer does not match the model: it has 256 tokens and the llama embedding 96 rows; use the tokenizer\.json/
    await fails(folder, ['score', model, '--text', 'a'], said)
    await fails(folder, ['generate', model, '--prompt', 'a'], said)
    await fails(folder, run(...set(`model=${model}`), ...set('data.format=text')), said)
    await fails(folder, ['score', llama3, '--ids', '95,96'], /96/)
    await writeFile(join(model, 'tokenizer.json'), '{"model": ')
    await fails(folder, ['score', model, '--text', 'a'], /tokenizer\.json: /)
  })
})

describe('data that are off', () => {
  it('a row without its fields, or with other kinds, is named by file and line', async () => {
    const model = await speaking()
    const { folder, run } = await finished()
    const rows = async (...lines: string[]): Promise<void> =>
      writeFile(join(folder, 'rows.jsonl'), `${lines.join('\n')}\n`)
    const on = (format: string, ...more: string[]): string[] =>
      run(...set(`model=${model}`), ...set('data.path=rows.jsonl'), ...set(`data.format=${format}`), ...more)
    process.chdir(folder)
    await rows('{"prompt": "a", "completion": "b"}', '{"prompt": "a"}')
    await fails(folder, on('completion'), /rows\.jsonl.*2: no field "completion"; found "prompt"; name the fields/)
    await rows('{"prompt": "a", "completion": 7}')
    await fails(folder, on('completion'), /rows\.jsonl.*1: "completion" is a number \(7\), want a string/)
    await rows('{"messages": [{"role": "user", "text": "a"}]}')
    await fails(folder, on('chat'), /rows\.jsonl.*1, message 1: no field "content"; found "role", "text"/)
    await rows('{"input_ids": [1, 2]}', '{"ids": [1]}')
    await fails(folder, on('ids'), /rows\.jsonl.*2: no field "input_ids"; found "ids"/)
    await rows('{"input_ids": [1, 5000]}')
    await fails(
      folder,
      on('ids'),
      /input_ids\[1\] is 5000, outside the vocabulary of 259; were these ids made by another tokenizer\?/,
    )
    await rows('{"text": 3}')
    await fails(folder, on('text'), /rows\.jsonl.*1: "text" is a number \(3\), want a string/)
    await rows('{"text": "a"')
    await fails(folder, on('text'), /rows\.jsonl.*1/)
    await rows('')
    await fails(folder, on('text'), /rows\.jsonl: the data holds no rows; is the file empty/)
    await fails(folder, on('chat', ...set(`model=${llama3}`)), /no tokenizer\.json/)
    await fails(
      folder,
      on('text', ...set('data.split=(')),
      /data\.split: Invalid regular expression.*; write a JavaScript/,
    )
  })

  it('what is scored must be a text', async () => {
    const model = await speaking()
    const folder = await temporary()
    const file = async (name: string, bytes: string | Uint8Array): Promise<string[]> => {
      await writeFile(join(folder, name), bytes)
      return ['score', model, '--file', join(folder, name)]
    }
    await fails(folder, await file('void.txt', ''), /void\.txt: is empty: nothing to score; name a file with text/)
    await fails(folder, await file('cat.jpg', Uint8Array.of(0xff, 0xd8, 0xff)), /cat\.jpg: not text in UTF-8; save it/)
    await fails(folder, ['score', model, '--file', folder], `${folder}: a folder, not a file`)
    await fails(folder, ['score', model, '--text', ''], '--text is empty: nothing to score', 2)
  })

  it('longer rows than the model takes', async () => {
    const { folder, run } = await finished()
    await fails(
      folder,
      run(...set('train.length=65')),
      /train\.length: 65 tokens are more than the 64 that the model takes .*; lower it/,
    )
  })
})

describe('out of memory', () => {
  it('a batch that no machine holds', async () => {
    const { folder, run } = await finished()
    await fails(
      folder,
      run(...set('train.batch=1000000000000')),
      /out of memory \(.*\); lower train\.batch or train\.length, set train\.recompute, quantize the base/,
    )
  })
})

describe('a loss that is no number', () => {
  it('stops the run, and leaves what an earlier one left', async () => {
    const { folder, run } = await finished()
    const before = await readFile(join(folder, 'out/adapter_model.safetensors'))
    const { code, err } = await weft([...run(...set('train.lr=1e38'), ...set('train.steps=9')), ...cpu])
    expect(code).toBe(1)
    expect(err).toMatch(/step \d: the loss is NaN; lower train\.lr, set train\.clip/)
    expect((await readFile(join(folder, 'out/adapter_model.safetensors'))).equals(before)).toBe(true)
  })
})

describe('a model that is none', () => {
  it('is named with its folder, and an adapter with what to do', async () => {
    const folder = await temporary()
    const model = join(folder, 'odd')
    await mkdir(model)
    const config = (text: string): Promise<void> => writeFile(join(model, 'config.json'), text)
    await config('{"model_type": "mamba"}')
    await fails(folder, ['score', model, '--ids', '1'], `${model}/config.json: model_type "mamba" is not supported`)
    await config('{"model_type": ')
    await fails(folder, ['score', model, '--ids', '1'], `${model}/config.json: not valid JSON`)
    expect((await weft(['inspect', model])).err).toContain(`${model}/config.json: not valid JSON`)
    await fails(
      folder,
      ['score', adapter, '--ids', '1'],
      /lora-qv: is an adapter, and a model is needed; name the one that it was trained on, and this with --adapter/,
    )
  })
})

describe('a run file that is none', () => {
  it('is refused in a line', async () => {
    const folder = await temporary()
    const path = join(folder, 'run.yaml')
    await writeFile(path, 'model: [')
    const { err } = await weft(['finetune', path])
    expect(err).toMatch(/^weft finetune: .*run\.yaml: not valid YAML: .* at line \d+, column \d+; mend it there\n$/)
    await writeFile(path, 'hello')
    await fails(
      folder,
      ['finetune', path],
      /must be a group of fields, found "hello"; there are model, .*data, train, out/,
    )
  })
})

describe('where a result cannot go', () => {
  it('nothing is computed, and no folder is left over', async () => {
    const { folder, run } = await finished()
    const foldersIn = async (): Promise<string[]> => (await readdir(folder, { recursive: true })).sort()
    const before = await foldersIn()
    const out = join(folder, 'new/out')
    await fails(folder, run('--out', out, ...set(`data.path=${join(folder, 'void.jsonl')}`)), /void\.jsonl/)
    await writeFile(join(folder, 'void.jsonl'), '')
    const [own, wrong] = [await foldersIn(), join(folder, 'run.yaml/out')]
    expect(own).toEqual([...before, 'void.jsonl'].sort())
    await fails(
      folder,
      run('--out', out, ...set(`data.path=${join(folder, 'void.jsonl')}`)),
      /void\.jsonl: the data holds no rows/,
    )
    const said = 'part of the path is a file, not a folder; choose another path'
    await fails(folder, run('--out', wrong), said)
    await fails(folder, ['fold', llama3, '--adapter', adapter, '--out', wrong], said)
    await fails(folder, ['quantize', llama3, wrong, '--codec', 'nf4'], said)
    await fails(folder, ['extract', llama3, llama3, wrong, '--rank', '1'], said)
    await fails(folder, run('--resume', '--restart'), '--resume goes on and --restart begins again', 2)
    expect((await weft(run('--out', out, '--backend', 'gpu'))).code).toBe(2)
    expect(await foldersIn()).toEqual(own)
  })

  it.skipIf(!process.getuid?.())('a folder that may not be written to', async () => {
    const { folder, run } = await finished()
    const closed = join(folder, 'closed')
    await mkdir(closed, { mode: 0o555 })
    for (const args of [
      run('--out', join(closed, 'a/b')),
      ['fold', llama3, '--adapter', adapter, '--out', join(closed, 'a')],
      ['quantize', llama3, join(closed, 'a'), '--codec', 'nf4'],
    ])
      await fails(folder, args, `${closed}: permission denied; check owner and mode`)
  })
})

it('a result never replaces the model that it is made from', async () => {
  const folder = await temporary()
  const model = join(folder, 'model')
  await cp(llama3, model, { recursive: true })
  const said = /model: is the folder of the model itself; choose another folder for the result/
  await fails(folder, ['fold', model, '--adapter', adapter, '--out', model], said)
  await fails(folder, ['quantize', model, `${model}/../model`, '--codec', 'nf4'], said)
})
