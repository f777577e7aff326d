import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { packState, unpackState } from '@weftjs/optim'
import type { Params, Tensor } from '@weftjs/spec'
import { tensor } from '@weftjs/tensor'
import { type Checkpoint, openSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile, saveSafetensors } from '@weftjs/tensor/checkpoint/file'
import { Failure } from './fail.ts'
import { writeWhole } from './files.ts'
import type { TrainSettings } from './schema.ts'

/** What makes a run what it is; `out` and how often it is looked at do not. */
export interface Identity {
  readonly settings: { readonly out: string; readonly train: TrainSettings }
  /** of the data files */
  readonly bytes: number
}
interface Place {
  readonly out: string
  readonly identity: Identity
}

export const checkpointPath = (out: string): string => join(out, 'checkpoint.safetensors')

const fingerprint = ({ settings: { out: _, train, ...rest }, bytes }: Identity): string => {
  const { checkpoint: __, validate: ___, ...kept } = train
  return JSON.stringify({ ...rest, train: kept, data_bytes: bytes })
}

export interface Restored {
  readonly step: number
  readonly params: Params
  readonly state: unknown
  /** fixed tensors that adapters have moved */
  readonly buffers?: Params
}

/** Parameters, optimizer state and settings after a step, in one file that replaces the last one whole. */
export const writeCheckpoint = async ({ out, identity }: Place, { step, ...rest }: Restored): Promise<void> => {
  const packed = packState(rest)
  await saveSafetensors(
    checkpointPath(out),
    Object.entries(packed.tensors).map(([name, t]) => ({
      name,
      dtype: t.dtype === 'int32' ? ('I32' as const) : t.dtype === 'bool' ? ('BOOL' as const) : ('F32' as const),
      shape: t.shape,
      data: async () => {
        const kind = { int32: Int32Array, bool: Uint8Array }[t.dtype as string] ?? Float32Array
        const given = await t.data()
        // a tensor that was cast from true and false may keep the bytes that it had
        const values = given instanceof kind ? given : kind.from(given as never)
        return new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice()
      },
    })),
    {
      step: String(step),
      of: String(identity.settings.train.steps),
      state: packed.json,
      settings: fingerprint(identity),
    },
  )
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

/**
 * The last checkpoint of a folder; undefined where there is none.
 * The shapes of what `reshaped` names may differ from those at the start.
 * @throws Failure for a file that is damaged, of other settings, or of another model; the file stays as it is
 */
export const readCheckpoint = async (
  place: Place,
  fresh: Params,
  reshaped: (name: string) => boolean = () => false,
): Promise<Restored | undefined> => {
  const path = checkpointPath(place.out)
  if (!(await exists(path))) return undefined
  let file: Checkpoint
  try {
    file = await openSafetensors(await fromFile(path))
  } catch (error) {
    throw new Failure(`${(error as Error).message}; start over with --restart`)
  }
  try {
    const { step, state: json, settings } = file.metadata
    if (step === undefined || !/^\d+$/.test(step) || json === undefined || settings === undefined)
      throw new Failure(`${path}: not a checkpoint of a run; start over with --restart, or choose another --out`)
    if (settings !== fingerprint(place.identity))
      throw new Failure(
        `${path}: this checkpoint was made with other settings: ${difference(settings, place.identity)}; go back to them, choose another --out, or start over with --restart`,
      )
    const tensors: Record<string, Tensor> = {}
    for (const name of file.names) {
      const { shape, dtype } = file.entry(name)
      tensors[name] =
        dtype === 'I32' || dtype === 'BOOL'
          ? tensor(await file.ints(name), shape as number[], dtype === 'I32' ? 'int32' : 'bool')
          : tensor(await file.floats(name), shape as number[])
    }
    const found = unpackState({ tensors, json }) as Omit<Restored, 'step'>
    const fits = (t: Tensor | undefined, name: string): boolean =>
      t !== undefined && (reshaped(name) || t.shape.join() === fresh[name]!.shape.join())
    const odd = Object.keys(fresh).find((n) => !fits(found.params[n], n))
    if (odd)
      throw new Failure(
        `${path}: has no ${odd} of shape [${fresh[odd]!.shape}], so it is of another model; start over with --restart`,
      )
    return { ...found, step: Number(step) }
  } finally {
    await file.close()
  }
}

/** @throws Failure where a run lies that has not come to its end, and nobody said that it may go */
export const refuseUnfinished = async (out: string): Promise<void> => {
  const path = checkpointPath(out)
  if (!(await exists(path))) return
  const { step, of } = await openSafetensors(await fromFile(path)).then(
    async (file) => {
      await file.close()
      return file.metadata
    },
    () => ({}) as Record<string, string>,
  )
  if (step !== undefined && step === of) return
  const what = step === undefined ? 'a checkpoint that cannot be read' : `a run that stopped at step ${step} of ${of}`
  throw new Failure(
    `${out}: holds ${what}; go on with --resume, start over with --restart, or choose another folder with --out`,
  )
}

/** keeps the lines of the steps that a resumed run stands on; an empty log at step 0 */
export const rewindLog = async (path: string, step: number): Promise<void> => {
  const lines = step ? (await readLog(path)).filter((row) => row.step <= step) : []
  await writeWhole(path, lines.map((l) => `${JSON.stringify(l)}\n`).join(''))
}

export interface LogRow {
  readonly step: number
  readonly loss: number
  readonly validation?: number
}
/** the rows of a log.jsonl; what is no row of a step is left out */
export const readLog = async (path: string): Promise<LogRow[]> =>
  (await readFile(path, 'utf8').catch(() => '')).split('\n').flatMap((line) => {
    try {
      const row = JSON.parse(line) as LogRow
      return Number.isInteger(row.step) && typeof row.loss === 'number' ? [row] : []
    } catch {
      return []
    }
  })

/** `train.lr was 0.001, is 0.002`: the first field in which two fingerprints differ */
const difference = (before: string, identity: Identity): string => {
  const walk = (a: unknown, b: unknown, path: string): string | undefined => {
    if (JSON.stringify(a) === JSON.stringify(b)) return undefined
    if (a && b && typeof a === 'object' && typeof b === 'object')
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
        const [x, y] = [(a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]]
        const found = walk(x, y, path ? `${path}.${key}` : key)
        if (found) return found
      }
    const show = (v: unknown): string => JSON.stringify(v) ?? 'not set'
    if (path === 'data_bytes') return `data.path had ${show(a)} bytes, has ${show(b)}`
    return `${path || 'the run'} was ${show(a)}, is ${show(b)}`
  }
  try {
    return walk(JSON.parse(before), JSON.parse(fingerprint(identity)), '') ?? 'in another order'
  } catch {
    return 'they cannot be read'
  }
}
