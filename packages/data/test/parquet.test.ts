import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { collect, parquet, pipe, read, take } from '../src/index.ts'

// made by tools/reference/parquet.py: 12 rows in row groups of 5, a compression of its own per column
const file = new Uint8Array(readFileSync(new URL('fixtures/rows.parquet', import.meta.url)))
const counted = () => {
  const source = {
    name: 'rows.parquet',
    size: file.length,
    bytes: 0,
    read: async (start: number, end: number) => {
      source.bytes += end - start
      return file.slice(start, end)
    },
  }
  return source
}
const row = (n: number) => ({
  prompt: `What is ${n} plus ${n}?`,
  completion: ` It is ${2 * n}. Größe: ${'ü'.repeat(n % 3)} 🧵`,
  input_ids: [n, n + 1, n + 2],
  labels: [-100, n + 1, n + 2],
  messages: [
    { role: 'user', content: `Say ${n}.` },
    { role: 'assistant', content: `${n}!` },
  ],
  score: n / 4,
  remark: n % 2 ? null : `even ${n}`,
})

describe('parquet', () => {
  it('reads every row, through each compression, 64-bit numbers as numbers', async () => {
    const all = Array.from({ length: 12 }, (_, n) => row(n))
    expect(await collect(parquet(file))).toEqual(all)
    expect(await collect(read(new File([file], 'r.parquet')))).toEqual(all)
    expect(await collect(parquet(counted(), { columns: ['score'] }))).toEqual(all.map(({ score }) => ({ score })))
  })

  it('reads a row group only when it is wanted', async () => {
    const pulled = async (n: number) => {
      const source = counted()
      expect((await collect(pipe(parquet(source, { columns: ['completion'] }), take(n)))).length).toBe(n)
      return source.bytes
    }
    const [one, five, six, twelve] = [await pulled(1), await pulled(5), await pulled(6), await pulled(12)]
    expect(one).toBe(five)
    expect(five).toBeLessThan(six)
    expect(six).toBeLessThan(twelve)
  })

  it('says what is wrong', async () => {
    await expect(collect(parquet(file, { columns: ['answer'] }))).rejects.toThrow(
      'input: no column "answer"; found "prompt", "completion"',
    )
    await expect(collect(parquet(file.slice(0, -20)))).rejects.toThrow('input: the footer cannot be read as Parquet')
    await expect(collect(parquet(new TextEncoder().encode('no parquet at all')))).rejects.toThrow(
      'the footer cannot be read',
    )
    const broken = file.slice()
    broken.fill(0xff, 4, 600)
    await expect(collect(parquet(broken))).rejects.toThrow('input: row group 1 of 3 cannot be read as Parquet')
    expect(await collect(parquet(new Uint8Array(0)))).toEqual([])
  })
})
