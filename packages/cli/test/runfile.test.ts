import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readFinetune, readPretrain } from '../src/runfile.ts'
import { temporary } from './weft.ts'

const good = {
  model: 'mini',
  adapters: [{ method: 'lora', at: '**' }],
  data: { path: 'a.txt', format: 'text' },
  train: { steps: 10 },
  out: 'runs/a',
}
const folder = await temporary()
const path = join(folder, 'run.yaml')
const read = async (text: string, sets: string[] = [], out?: string): Promise<unknown> => {
  await writeFile(path, text)
  return (await readFinetune(path, sets, out)).settings
}
/** what is said of the good file after assignments, one line each, without the file's name */
const complaintsOf = async (...sets: string[]): Promise<string[]> =>
  read(JSON.stringify(good), sets).then(
    () => [],
    (error: Error) => error.message.split('\n').map((line) => line.replace(`${path}: `, '')),
  )

it('fills in the defaults, and takes settings from the command line', async () => {
  expect(await read(JSON.stringify(good), ['train.lr=2e-3', 'adapters.0.rank=4'], 'elsewhere')).toEqual({
    model: 'mini',
    adapters: [{ method: 'lora', at: '**', rank: 4 }],
    data: { path: 'a.txt', format: 'text', validation: 0 },
    train: {
      steps: 10,
      batch: 8,
      length: 256,
      optimizer: 'adamw',
      lr: 2e-3,
      schedule: 'cosine',
      warmup: 0,
      seed: 0,
      weight_decay: 0.01,
      betas: [0.9, 0.999],
      momentum: 0,
      accumulate: 1,
      checkpoint: 100,
    },
    out: 'elsewhere',
  })
})

describe('a wrong field is named with what was found and what belongs there', () => {
  it.each([
    // kinds
    ['train.steps=many', 'train.steps: must be a number, found "many"'],
    ['train.steps=1.5', 'train.steps: must be a whole number, found 1.5'],
    ['train.steps=0', 'train.steps: must be at least 1, found 0'],
    ['train.steps=', 'train.steps: must be a number, found nothing'],
    ['train.steps=[1]', 'train.steps: must be a number, found [1]'],
    ['train.lr=-1', 'train.lr: must be more than 0, found -1'],
    ['train.lr=.inf', 'train.lr: must be a number, found Infinity'],
    ['train.lr=1_000', 'train.lr: must be a number, found "1_000"'],
    ['train.betas=[0.9]', 'train.betas: must have at least 2 entries, found [0.9]'],
    ['train.betas=[0.9,1]', 'train.betas.1: must be less than 1, found 1'],
    ['train.seed=-1', 'train.seed: must be at least 0, found -1'],
    ['train=fast', 'train: must be a group of fields, found "fast"'],
    ['model=7', 'model: must be text, found 7'],
    ['model=""', 'model: must not be empty, found ""'],
    ['data.path=7', 'data.path: must be text or a list, found 7'],
    ['data.path=[a, 7]', 'data.path.1: must be text, found 7'],
    ['data.path=[]', 'data.path: must have at least 1 entry, found []'],
    ['data.validation=0.6', 'data.validation: must be at most 0.5, found 0.6'],
    ['data.shuffle=1', 'data.shuffle: must be true or false, found 1'],
    ['adapters={}', 'adapters: must be a list, found {}'],
    // choices
    ['data.format=prose', 'data.format: must be one of text, completion, chat, ids, found "prose"'],
    ['train.optimizer=adam', 'train.optimizer: must be one of adamw, sgd, lora_plus, lora_fa, found "adam"'],
    // names
    ['train.stpes=3', 'train.stpes: there is no such field; did you mean steps?'],
    ['trian.steps=3', 'trian: there is no such field; did you mean train?'],
    ['data.fromat=text', 'data.fromat: there is no such field; did you mean format?'],
    ['base={codec: nf4, zz: 1}', 'base.zz: there is no such field; there are codec, at, precision'],
    // adapters: two kinds of entry
    ['adapters.0=lora', 'adapters.0: must be a group of fields, found "lora"'],
    ['adapters.0.rank=eight', 'adapters.0.rank: must be a number, found "eight"'],
    ['adapters.0.rank=0', 'adapters.0.rank: must be at least 1, found 0'],
    ['adapters.0.at=5', 'adapters.0.at: must be text or a list, found 5'],
    ['adapters.0.at=[a,5]', 'adapters.0.at.1: must be text, found 5'],
    ['adapters.0.name=a.b', 'adapters.0.name: must be letters, digits, _ and -, found "a.b"'],
    ['adapters.0.name=whole', 'adapters.0.name: \'whole\' stands for what trains whole; choose another, found "whole"'],
    ['calibrate={batch: 3}', 'calibrate.batch: there is no such field; did you mean batches?'],
    ['adapters.0={method: lora}', 'adapters.0.at: is missing; it must be text or a list'],
    ['adapters.0={at: x}', 'adapters.0.method: is missing; it must be text'],
    ['adapters.0={from: 5}', 'adapters.0.from: must be text, found 5'],
    ['adapters.0={form: x, at: y}', 'adapters.0.method: is missing; it must be text'],
    ['adapters.0={from: x, rank: 8}', 'adapters.0.rank: does not go with from; remove one'],
    ['adapters.0.rank_pattern={q: 0}', 'adapters.0.rank_pattern.q: must be at least 1, found 0'],
    // between fields
    ['train.momentum=0.9', 'train.momentum: is only for train.optimizer: sgd, found adamw; leave it out'],
    ['train.decay=2', 'train.decay: is only for train.schedule: wsd, found cosine; leave it out'],
    ['data.prompt=q', 'data.prompt: is only for data.format: completion, found text; leave it out'],
    ['data.stride=300', 'data.stride: 300 passes over text, since train.length is 256; lower it'],
    ['adapters=[]', 'adapters: nothing would train; add an adapter, or name tensors in "trains"'],
    ['adapters=[{from: a},{from: b}]', 'adapters: { from } goes on from one PEFT adapter and stands alone'],
  ])('%s', async (set, said) => {
    const found = await complaintsOf(set)
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(said)
  })

  it('all of them at once, missing ones too', async () => {
    await expect(read('model: 3\ntrain: { batch: x }\ndata: { format: text }\n')).rejects.toThrow(
      [
        'model: must be text, found 3',
        'data.path: is missing; it must be text or a list',
        'train.steps: is missing; it must be a number',
        'train.batch: must be a number, found "x"',
        'out: is missing; it must be text',
      ]
        .map((line) => `${path}: ${line}`)
        .join('\n'),
    )
    await expect(read('')).rejects.toThrow('the file: must be a group of fields, found nothing')
    await expect(read('- a')).rejects.toThrow('the file: must be a group of fields, found ["a"]')
    await expect(read('__proto__: { out: x }')).rejects.toThrow(/is missing/)
  })

  it('of pretrain as well', async () => {
    await writeFile(
      path,
      JSON.stringify({ config: 3, tokenizer: 't', data: good.data, train: good.train, dtype: 'F8', out: 'o' }),
    )
    await expect(readPretrain(path, [])).rejects.toThrow(
      `${path}: config: must be text or a group of fields, found 3\n${path}: dtype: must be one of F32, F16, BF16, found "F8"`,
    )
  })
})

describe('YAML', () => {
  it.each([
    ['model: [a', /not valid YAML: .*line 1/],
    ['model: a\nmodel: b', /not valid YAML: Map keys must be unique at line 2/],
    ['train: { steps: 1, steps: 2 }', /Map keys must be unique/],
    ['model: !!js/function "x"', /not valid YAML: Unresolved tag/],
    ['a: 1\n---\nb: 2', /not valid YAML: .*multiple documents/],
    ['\tmodel: a', /not valid YAML: .*[Tt]ab/],
    ['model: *nobody', /not valid YAML: .*nobody/],
    [
      [
        'a: &a [x,x,x,x,x,x,x,x,x]',
        ...'bcdefghi'.split('').map((k, i) => `${k}: &${k} [${Array(9).fill(`*${'abcdefgh'[i]}`)}]`),
      ].join('\n'),
      /not valid YAML: Excessive alias count/,
    ],
  ])('%j is refused', async (text, said) => {
    await expect(read(text)).rejects.toThrow(said)
    await expect(read(text)).rejects.toThrow(path)
  })

  it('aliases that unfold to little are fine', async () => {
    const at = 'data: &d { path: a.txt, format: text }\n'
    expect(
      await read(`${at}model: mini\nadapters: [&a { method: lora, at: q }]\ntrain: { steps: 1 }\nout: o`),
    ).toMatchObject({
      data: { path: 'a.txt' },
    })
  })

  it('whatever is in the file, it is read or refused with its path', async () => {
    const value = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small' },
        fc.string(),
        fc.double(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('any'), { maxLength: 3 }),
        tie('map'),
      ),
      map: fc.dictionary(fc.constantFrom('model', 'data', 'train', 'steps', 'path', 'from', 'at', 'x'), tie('any'), {
        maxKeys: 4,
      }),
    })).any
    await fc.assert(
      fc.asyncProperty(
        value,
        fc.constantFrom('adapters', 'train', 'data', 'base', 'trains', 'adapters.0', 'train.betas'),
        async (v, field) => {
          await read(JSON.stringify(good), [`${field}=${JSON.stringify(v) ?? 'null'}`]).catch((error: Error) => {
            for (const line of error.message.split('\n'))
              expect(line).toMatch(new RegExp(`^${path.replaceAll('.', '\\.')}: (${field.split('.')[0]}|data|out)`))
          })
        },
      ),
      { numRuns: 200 },
    )
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 200 }), async (text) => {
        await expect(read(text)).rejects.toThrow(path)
      }),
      { numRuns: 200 },
    )
  })
})

describe('--set', () => {
  it.each([
    ['train.steps', "--set takes path=value, found 'train.steps'"],
    ['=3', "--set takes path=value, found '=3'"],
    ['adapters.2.rank=3', "--set adapters.2.rank: '2' is no index of a list of 1"],
    ['adapters.x=3', "--set adapters.x: 'x' is no index of a list of 1"],
    ['__proto__.x=1', "--set __proto__.x: '__proto__' is no field"],
    ['train..steps=1', "'' is no field"],
    ['train.lr=[', '--set train.lr: not valid YAML'],
  ])('%s is refused', async (set, said) => {
    await expect(read(JSON.stringify(good), [set])).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringContaining(said),
    })
  })
})

it('paths are looked for beside the run file, then in the working folder, unless set on the command line', async () => {
  await writeFile(path, JSON.stringify(good))
  await writeFile(join(folder, 'a.txt'), '')
  const file = await readFinetune(path, [])
  expect(await file.find('a.txt', 'data.path')).toBe(join(folder, 'a.txt'))
  expect(await file.find('package.json', 'data.path')).toBe(join(process.cwd(), 'package.json'))
  await expect(file.find('b.txt', 'data.path')).rejects.toThrow(
    `${path}: data.path: there is no ${join(folder, 'b.txt')} and no ${join(process.cwd(), 'b.txt')}; correct the path`,
  )
  const set = await readFinetune(path, ['data.path=a.txt'])
  await expect(set.find('a.txt', 'data.path')).rejects.toThrow(`there is no ${join(process.cwd(), 'a.txt')};`)
})

it.each([
  ['nowhere.yaml', 'there is no such run file'],
  ['.', 'a folder, not a run file'],
])('%s: %s', async (name, said) => {
  await expect(readFinetune(join(folder, name), [])).rejects.toThrow(said)
})
