import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { fixtures, project, type Result, weft } from './weft.ts'

export const peft = (name: string): string => join(fixtures, 'peft', name)
export const run = (folder: string, ...more: string[]): Promise<Result> =>
  weft(['finetune', join(folder, 'run.yaml'), '--backend', 'cpu', ...more])
export const config = async (folder: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>
/** a folder with a short run that trains these */
export const entry = (adapters: object[], more: object = {}): Promise<string> =>
  project({ adapters, train: { steps: 3, batch: 2, length: 8, lr: 1e-2 }, ...more })
export const ids = '3,14,15,9,2,6'
/** log-probabilities of a text */
export const scored = async (model: string, ...adapters: string[]): Promise<number> => {
  const { code, out, err } = await weft([
    ...['score', model, '--ids', ids, '--backend', 'cpu', '--json'],
    ...adapters.flatMap((a) => ['--adapter', a]),
  ])
  expect(code, err).toBe(0)
  return (JSON.parse(out) as { loss: number }).loss
}
