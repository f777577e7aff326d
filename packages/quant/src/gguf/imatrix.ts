import type { Config, Seen } from '@weftjs/spec'
import { type ByteSource, CheckpointError } from '@weftjs/tensor/checkpoint'
import type { Names } from '../formats/format.ts'
import { familyOf, sizesOf } from './config-out.ts'
import { expertIn, expertsName, toGgufName } from './families.ts'
import { openGguf } from './reader.ts'

/**
 * E[x²] of what each column of a matrix is multiplied by, by ggml's name of its tensor: `blk.3.ffn_down.weight`; of
 * `blk.3.ffn_down_exps.weight` those of one expert after the other.
 */
export type GgufImportance = Readonly<Record<string, Float32Array>>

/**
 * The importance of a calibration pass that gathered `square`. Where no token came to an expert its columns count alike, as
 * llama.cpp has it.
 * @param names which of the checkpoint's names each matrix has: `namesOf(network.config)`
 */
export const ggufImportance = async (
  seen: Readonly<Record<string, Seen>>,
  names: Names,
  config: Config,
): Promise<GgufImportance> => {
  const family = familyOf(config)
  const found: Record<string, Float32Array> = {}
  for (const { hf, name } of names) {
    const own = seen[name]
    if (!own) continue
    const square = (await own.get('square').data()) as Float32Array
    const one = expertIn(family, hf)
    if (one?.expert !== undefined) {
      const key = expertsName(one.layer, one.parts[0]!)
      found[key] ??= new Float32Array(sizesOf(config).experts!.count * square.length).fill(1)
      found[key].set(square, one.expert * square.length)
      continue
    }
    const to = toGgufName(family, hf)
    if (to) found[to] = square
  }
  return found
}

/** of one tensor @throws Error where it is of other columns, or no finite number that is not negative */
export const importanceFor = (
  all: GgufImportance | undefined,
  name: string,
  shape: readonly number[],
): Float32Array | undefined => {
  const found = shape.length > 1 && all && Object.hasOwn(all, name) ? all[name] : undefined
  if (!found) return undefined
  const columns = (shape.length > 2 ? shape[0]! : 1) * shape.at(-1)!
  if (found.length !== columns)
    throw new Error(`${name}: the importance is of ${found.length} columns, and the matrix has ${columns}`)
  const odd = found.findIndex((v) => !(v >= 0 && v < Number.POSITIVE_INFINITY))
  if (odd >= 0) throw new Error(`${name}: the importance of column ${odd} is ${found[odd]}; gather it again`)
  return found
}

/** 'GGUF' */
const MAGIC = 0x46554747
const SUMS = '.in_sum2'

/**
 * llama.cpp's importance matrix, of either form: GGUF with the sums `NAME.in_sum2` and how many `NAME.counts`, and the older
 * one without a name. Closes the source.
 * @throws CheckpointError for a damaged file, and for a GGUF file that is no importance matrix
 */
export const readImatrix = async (source: ByteSource): Promise<GgufImportance> => {
  if (source.size >= 4 && word(await source.read(0, 4)) === MAGIC) return fromGguf(source)
  try {
    return legacy(source.name, await source.read(0, source.size))
  } finally {
    await source.close?.()
  }
}

const word = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)

const fromGguf = async (source: ByteSource): Promise<GgufImportance> => {
  const file = await openGguf(source)
  try {
    const found: Record<string, Float32Array> = {}
    for (const [name, { type, shape }] of file.tensors) {
      if (!name.endsWith(SUMS)) continue
      const stem = name.slice(0, -SUMS.length)
      const counts = file.tensors.get(`${stem}.counts`)
      const [groups, width] = shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape.at(-1)!]
      const counted = counts?.shape.reduce((a, b) => a * b, 1)
      if (type !== 'F32' || counts?.type !== 'F32' || shape.length > 2 || counted !== groups)
        throw new CheckpointError(
          `is ${type} [${shape}] with counts ${counts ? `${counts.type} [${counts.shape}]` : 'missing'}; an importance matrix has float32 sums and a count for each`,
          { file: file.name, tensor: name },
        )
      const floats = async (of: string): Promise<Float32Array> => new Float32Array((await file.read(of)).slice().buffer)
      const [sums, many] = [await floats(name), await floats(counts.name)]
      // as llama.cpp has it, a matrix that nothing went through counts alike in all columns
      found[stem] = sums.map((v, i) => {
        const n = many[Math.floor(i / width)]!
        return n > 0 ? v / n : 1
      })
    }
    if (!Object.keys(found).length)
      throw new CheckpointError(`has no sums of an importance matrix (${SUMS}); name what llama-imatrix wrote`, {
        file: file.name,
      })
    return found
  } finally {
    await file.close()
  }
}

const legacy = (file: string, bytes: Uint8Array): GgufImportance => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  const take = (size: number): number => {
    if (!(size >= 0 && size <= bytes.length - at))
      throw new CheckpointError(
        `at byte ${at}: ${size} bytes should follow and ${bytes.length - at} do; this is no importance matrix of llama.cpp, or a part of one`,
        { file },
      )
    at += size
    return at - size
  }
  const int = (): number => view.getInt32(take(4), true)
  const found: Record<string, Float32Array> = {}
  for (let left = int(); left > 0; left--) {
    const length = int()
    const from = take(length)
    const name = new TextDecoder().decode(bytes.subarray(from, from + length))
    const calls = int()
    const values = int()
    const start = take(4 * values)
    const own = new Float32Array(bytes.slice(start, start + 4 * values).buffer)
    // sums over so many calls of means
    found[name] = calls > 0 ? own.map((v) => v / calls) : own
  }
  if (!Object.keys(found).length) throw new CheckpointError('has no matrices; name what llama-imatrix wrote', { file })
  return found
}
