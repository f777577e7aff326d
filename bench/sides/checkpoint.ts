/** The checkpoint that `load` opens: made once, by our own writer, under .cache/bench. */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TensorSource } from '@weftjs/tensor/checkpoint'
import { saveCheckpoint } from '@weftjs/tensor/checkpoint/file'
import { configOf, SMOL, tensorsOf, valuesOf } from './shape.ts'

const where = fileURLToPath(new URL('../../.cache/bench/smol-f32', import.meta.url))
const bytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

/** a tensor that no model has a place for, 27 MB: whoever reads it reads too much */
const EXTRA = 'teacher.projection.weight'

/** float32, 538 MB in six shards, and 27 MB that a model need not read; → its folder */
export const checkpoint = async (): Promise<string> => {
  if (existsSync(where)) return where
  const part = `${where}.part`
  rmSync(part, { recursive: true, force: true })
  mkdirSync(part, { recursive: true })
  const source = (name: string, shape: number[]): TensorSource => ({
    ...{ name, dtype: 'F32', shape },
    data: async () => bytes(valuesOf(name, shape)),
  })
  const all = [...tensorsOf(SMOL), [EXTRA, [12_000, SMOL.width]] as [string, number[]]]
  await saveCheckpoint(
    part,
    all.map(([name, shape]) => source(name, shape)),
    { metadata: { format: 'pt' }, maxShardBytes: 115e6 },
  )
  writeFileSync(join(part, 'config.json'), JSON.stringify({ ...configOf(SMOL), dtype: 'float32' }, null, 2))
  renameSync(part, where)
  return where
}
