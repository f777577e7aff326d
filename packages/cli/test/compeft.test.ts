import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpu } from '@weftjs/tensor'
import { openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { describe, expect, it } from 'vitest'
import { config, peft, scored } from './adapter-runs.ts'
import { llama3, temporary, weft } from './weft.ts'

await cpu()
const to = (path: string, out: string, target: string, ...more: string[]) =>
  weft(['convert', path, out, '--to', target, '--json', ...more])
const numbersOf = async (folder: string): Promise<Map<string, Float32Array>> => {
  const file = await openSafetensors(await fromFile(join(folder, 'adapter_model.safetensors')))
  const found = new Map<string, Float32Array>()
  for (const name of [...file.names].sort()) found.set(name, await file.floats(name))
  await file.close()
  return found
}

describe('convert --to compeft', () => {
  it('makes one small file of an adapter, which commands take in its place, and a folder of it again', async () => {
    const out = await temporary()
    const [file, folder] = [join(out, 'a.cpft'), join(out, 'a')]
    const made = await to(peft('lora-qv'), file, 'compeft', '--keep', '0.25', '--magnitude', 'mean')
    expect({ code: made.code, err: made.code ? made.err : '' }).toEqual({ code: 0, err: '' })
    const said = JSON.parse(made.out) as { numbers: number; kept: number; scale: number; bytes: number }
    const before = await numbersOf(peft('lora-qv'))
    const all = [...before.values()].flatMap((v) => [...v])
    expect(said).toMatchObject({ numbers: all.length, kept: Math.floor(all.length / 4) })
    expect(said.bytes).toBe((await stat(file)).size)

    expect((await to(file, folder, 'peft')).code).toBe(0)
    expect(await config(folder)).toEqual(await config(peft('lora-qv')))
    const least = all.map(Math.abs).sort((a, b) => b - a)[said.kept - 1]!
    for (const [name, values] of await numbersOf(folder)) {
      const own = before.get(name)!
      expect([...values]).toEqual([...own].map((v) => (Math.abs(v) >= least ? Math.sign(v) * said.scale : 0)))
    }
    expect(await scored(llama3, file)).toBe(await scored(llama3, folder))
    expect(await scored(llama3, file)).not.toBe(await scored(llama3))

    const report = JSON.parse((await weft(['inspect', file, '--json'])).out) as Record<string, unknown>
    expect(report).toMatchObject({
      kind: 'adapter',
      parameters: all.length,
      bytes: said.bytes,
      config: { peft_type: 'LORA' },
    })
    const { out: text } = await weft(['inspect', file])
    expect(text).toContain(`compeft.kept: ${said.kept} of ${all.length} (25.00 %), each ±${said.scale.toPrecision(4)}`)
    const ids = ['--ids', '1,2,3', '--max-tokens', '4', '--backend', 'cpu']
    const written = await Promise.all([weft(['generate', llama3, '--adapter', folder, ...ids])])
    expect(await weft(['generate', llama3, '--adapter', file, ...ids])).toEqual(written[0])
  })

  it('takes IA3 as what its vectors are beside 1', async () => {
    const out = await temporary()
    const [file, folder] = [join(out, 'a.cpft'), join(out, 'a')]
    expect((await to(peft('from-weft-ia3'), file, 'compeft', '--keep', '1', '--magnitude', 'own')).code).toBe(0)
    expect((await to(file, folder, 'peft')).code).toBe(0)
    const before = await numbersOf(peft('from-weft-ia3'))
    for (const [name, values] of await numbersOf(folder))
      for (const [i, v] of values.entries()) expect(v).toBeCloseTo(before.get(name)![i]!, 6)
  })

  it.each([
    [['convert', 'CUT', 'o', '--to', 'peft'], 1, 'CUT: '],
    [['convert', 'TEXT', 'o', '--to', 'peft'], 1, 'does not begin with CPFT; it is no ComPEFT file'],
    [['convert', 'nowhere', 'o', '--to', 'peft'], 1, 'nowhere: there is no such file; check the path'],
    [
      ['convert', peft('lora-qv'), 'o', '--to', 'peft'],
      1,
      '--to peft makes one of a ComPEFT file or a GGUF LoRA; name that',
    ],
    [['convert', 'FILE', 'o', '--to', 'compeft'], 1, 'is a ComPEFT file already; --to peft makes it a folder'],
    [
      ['convert', peft('lora-qv'), 'o', '--to', 'compeft', '--rank', '2'],
      2,
      '--rank is for --to lora, found --to compeft',
    ],
    [
      ['convert', peft('lora-qv'), 'o', '--rank', '2', '--keep', '0.1'],
      2,
      '--keep is for --to compeft, found --to lora',
    ],
    [['convert', peft('lora-qv'), 'o', '--to', 'compeft', '--keep', '10'], 2, '--keep must be a number'],
    [['convert', peft('lora-qv'), 'o', '--to', 'compeft', '--magnitude', 'max'], 2, "found 'max'"],
    [['convert', peft('dora'), 'o', '--to', 'compeft'], 1, 'is no part of LORA, which alone is made ternary'],
    [['convert', peft('adalora'), 'o', '--to', 'compeft'], 1, 'peft_type is "ADALORA"; ComPEFT is for LORA and IA3'],
    [['convert', peft('lora-qv'), peft('lora-qv'), '--to', 'compeft'], 1, 'a folder, and a ComPEFT file is written'],
    [['generate', llama3, '--ids', '1', '--adapter', 'CUT', '--backend', 'cpu'], 1, 'CUT: '],
    [['generate', llama3, '--ids', '1', '--adapter', 'TEXT', '--backend', 'cpu'], 1, 'a file that is no ComPEFT one'],
    [['inspect', 'CUT'], 1, 'CUT: '],
    [['quantize', llama3, 'o', '--codec', 'compeft'], 2, 'weft convert ADAPTER OUT --to compeft'],
  ] as const)('%j is refused', async (args, code, said) => {
    const folder = await temporary()
    const path = {
      FILE: join(folder, 'FILE'),
      CUT: join(folder, 'CUT'),
      TEXT: join(folder, 'TEXT'),
      o: join(folder, 'o'),
    }
    await to(peft('lora-qv'), path.FILE, 'compeft')
    const whole = await readFile(path.FILE)
    await writeFile(path.CUT, whole.subarray(0, whole.length - 9))
    await writeFile(path.TEXT, 'no adapter')
    const found = await weft(args.map((a) => path[a as 'o'] ?? a))
    expect(found.err).toContain(said)
    expect(found.code).toBe(code)
    expect(await stat(path.o).catch(() => undefined)).toBeUndefined()
  })
})
