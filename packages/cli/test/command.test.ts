import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { helpOf } from '../src/command.ts'
import { explain } from '../src/explain.ts'
import { commands } from '../src/main.ts'
import { methods } from '../src/methods.generated.ts'
import { weft } from './weft.ts'

describe('help', () => {
  it('lists the commands, and shows each with its options and examples', async () => {
    const { code, out } = await weft(['--help'])
    expect(code).toBe(0)
    expect(commands.map((c) => c.name)).toEqual([
      'finetune',
      'pretrain',
      'score',
      'generate',
      'fold',
      'merge',
      'quantize',
      'combine',
      'convert',
      'extract',
      'inspect',
      'list',
    ])
    for (const c of commands) {
      expect(out).toContain(`  ${c.name.padEnd(10)}${c.summary}\n`)
      for (const args of [
        [c.name, '--help'],
        [c.name, '-h'],
        ['help', c.name],
      ]) {
        const help = await weft(args)
        expect(help).toMatchObject({ code: 0, err: '' })
        expect(help.out.startsWith(`weft ${[c.name, ...c.args].join(' ')} [options]\n`)).toBe(true)
        for (const option of Object.keys(c.options)) expect(help.out).toContain(`--${option}`)
        expect(help.out).toContain('Examples:')
      }
    }
  })

  it('fits a terminal: no option pushes what it does beyond the others', async () => {
    for (const c of commands)
      for (const line of helpOf(c)
        .split('\n')
        .filter((l) => l.startsWith('  -')))
        expect(line.search(/\S {2,}\S/), line).toBeLessThan(32)
  })

  it('every option and field of run files stands in the README', async () => {
    const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
    for (const c of commands) for (const option of Object.keys(c.options)) expect(readme).toContain(`--${option}`)
    const schema = await readFile(new URL('../src/schema.ts', import.meta.url), 'utf8')
    const fields = [...schema.slice(0, schema.indexOf('const ONLY')).matchAll(/^ {2}(\w+): [a-z]/gm)].map((m) => m[1]!)
    expect(fields.length).toBeGreaterThan(35)
    for (const field of fields) expect(readme).toMatch(new RegExp(`\`(adapters\\.N\\.)?${field}\``))
  })

  it('needs nothing but Node: what computes is loaded by the command that runs', async () => {
    const seen = new Set<string>()
    const walk = async (url: URL): Promise<void> => {
      if (seen.has(url.href)) return
      seen.add(url.href)
      const text = await readFile(url, 'utf8')
      for (const [, from] of text.matchAll(/^(?:import|export) (?!type)[^;]*? from '(.*)'/gm)) {
        expect(from).toMatch(/^(node:|\.\/|\.\.\/)/)
        expect(from).not.toContain('/run/')
        if (from!.startsWith('.')) await walk(new URL(from!, url))
      }
    }
    await walk(new URL('../src/main.ts', import.meta.url))
    expect(seen.size).toBeGreaterThan(commands.length + 5)
  })
})

describe('arguments that are off exit with 2 and say what there is', () => {
  it.each([
    [[], 'weft COMMAND [arguments]'],
    [['finetnue'], "there is no command 'finetnue'; did you mean finetune?"],
    [['dance'], "there is no command 'dance'; there are finetune, pretrain"],
    [['finetune'], 'finetune needs RUN.yaml; see weft finetune --help'],
    [['score', 'mini', 'more'], "score does not take 'more'"],
    [['score', 'mini', '--txt', 'a'], "Unknown option '--txt'"],
    [['score', 'mini', '--txet', 'a'], "Unknown option '--txet'; did you mean --text? See weft score --help"],
    [['score', 'mini', '--text', '--json'], '--text needs a value; write one that begins with a dash as --text=VALUE'],
    [['score', 'mini', '--ids', '-1'], "--ids takes whole numbers with commas between, found '-1'"],
    [['generate', 'mini', '--prompt', 'a', '--stop', ''], '--stop must not be empty'],
    [['--hlep'], "there is no command '--hlep'; did you mean --help?"],
    [['score', 'mini', '--text'], "'--text <value>' argument missing"],
    [['score', 'mini'], 'score needs one of --text, --ids and --file, found none'],
    [['score', 'mini', '--text', 'a', '--ids', '1'], 'found --text and --ids'],
    [['score', 'mini', '--ids', '1,x'], "--ids takes whole numbers with commas between, found 'x'"],
    [['score', 'mini', '--ids', '1', '--backend', 'cuda'], "--backend must be one of webgpu, wasm, cpu, found 'cuda'"],
    [['generate', 'mini'], 'generate needs one of --prompt and --ids, found none'],
    [['generate', 'mini', '--prompt', 'a', '--max-tokens', '0'], '--max-tokens must be a whole number of at least 1'],
    [
      ['generate', 'mini', '--prompt', 'a', '--temperature', 'hot'],
      "--temperature must be a number of at least 0, found 'hot'",
    ],
    [['generate', 'mini', '--prompt', 'a', '--top-p', '2'], '--top-p must be a number of at least 0 and at most 1'],
    [['fold', 'mini', '--out', 'x'], 'fold needs --adapter DIR'],
    [['fold', 'mini', '--adapter', 'x'], 'fold needs --out DIR'],
    [['fold', 'mini', '--adapter', 'x', '--out', 'y', '--dtype', 'F8'], '--dtype must be F32, F16 or BF16'],
    [['quantize', 'mini', 'x'], 'quantize needs --codec; weft list quant names them'],
    [['quantize', 'mini', 'x', '--codec', 'gptx'], "--codec: there is no codec 'gptx'; did you mean gptq?"],
    [
      ['quantize', 'mini', 'x', '--codec', 'int4:size=3'],
      "--codec: int4 has no option 'size'; it has floatZero, group, symmetric",
    ],
    [['quantize', 'mini', 'x', '--codec', 'int4:group=x'], '--codec: '],
    [['quantize', 'mini', 'x', '--codec', 'int4:group'], "--codec: 'group' is no option; write name=value"],
    [['quantize', 'mini', 'x', '--codec', 'mixed'], 'mixed needs a budget of bits per weight; write mixed:bits=4.5'],
    [['quantize', 'mini', 'x', '--codec', 'gguf:Q4_K_M'], 'Q4_K_M mixes types over a whole file; take one of'],
    [['quantize', 'mini', 'x.gguf', '--codec', 'nf4'], 'a GGUF file has types of its own; take --codec gguf:Q4_K_M'],
    [['merge', 'x.yaml'], 'merge needs OUT'],
    [['list', 'lroa'], "there is no family 'lroa'; there are"],
  ])('%j', async (args, said) => {
    const { code, out, err } = await weft(args)
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toContain(said)
    if (args.length) expect(err.trimEnd().split('\n'), 'one line').toHaveLength(1)
  })

  it('a number below zero is a value', async () => {
    const { err } = await weft(['combine', 'a', 'b', 'out', '--weights', '-0.3,1'])
    expect(err).toContain('a: there is no such adapter')
  })
})

describe('list', () => {
  it('names every method with family, file, equation and paper, as JSON and as text', async () => {
    const { code, out } = await weft(['list', '--json'])
    expect(code).toBe(0)
    const found = JSON.parse(out) as Record<string, string>[]
    expect(found).toEqual(methods)
    expect(found.length).toBeGreaterThan(10)
    for (const m of found) {
      for (const key of ['name', 'family', 'file', 'equation', 'paper']) expect(m[key]).toMatch(/\S/)
      const source = await readFile(new URL(`../../../${m['file']}`, import.meta.url), 'utf8')
      expect(source).toContain(`export const ${m['name']}`)
    }
    expect(found.map((m) => m['name'])).toEqual(expect.arrayContaining(['lora', 'nf4', 'int8', 'adamw', 'sgd']))
    const text = (await weft(['list', 'lora'])).out
    expect(text).toMatch(/^lora\n {2}\w/)
    expect(text).toMatch(/\n {2}lora .*Hu et al\., arXiv:2106\.09685\n/)
    expect(text).not.toContain('quant')
    expect(JSON.parse((await weft(['list', 'quant', '--json'])).out)).toEqual(
      methods.filter((m) => m.family === 'quant'),
    )
  })
})

describe('what lower layers say, with a remedy', () => {
  const range = (make: () => unknown): unknown => {
    try {
      return make()
    } catch (error) {
      return error
    }
  }
  it.each([
    range(() => new Float32Array(2 ** 53)),
    range(() => new ArrayBuffer(2 ** 52)),
    range(() => new Array(-1)),
    new RangeError('Array buffer allocation failed'),
    new Error('Aborted(Cannot enlarge memory arrays to size 4294967296 bytes (OOM))'),
    new WebAssembly.RuntimeError('memory access out of bounds'),
    new Error('Failed to create buffer: Out of memory'),
    new Error('Buffer size (8589934592) exceeds the max buffer size limit (4294967296)'),
  ])('out of memory: %s', (error) => {
    expect(explain(error)).toMatch(
      /^out of memory \(.+\); lower train\.batch or train\.length, set train\.recompute, quantize the base/,
    )
  })

  it.each([
    ['ENOSPC', /^\/x: the disk is full; free some space/],
    ['EACCES', /^\/x: permission denied; check owner and mode/],
    ['ENOENT', /^\/x: no such file or folder; check the path/],
    ['EROFS', /read-only; choose another folder/],
  ])('%s', (code, said) => {
    expect(explain(Object.assign(new Error('raw'), { code, path: '/x' }))).toMatch(said)
  })
  it('whatever was thrown', () => {
    expect(explain('text')).toBe('text')
    expect(explain(undefined)).toBe('undefined')
    expect(explain(new TypeError('')).length).toBeGreaterThan(3)
  })
})

it('--version is that of the package', async () => {
  const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  expect(await weft(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' })
})
