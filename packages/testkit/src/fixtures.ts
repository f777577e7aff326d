import { readFile } from 'node:fs/promises'
import { type Checkpoint, type Folder, fromBytes, openSafetensors } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'

/** the parity fixtures of this repository, made by tools/reference: Node only, and not part of the published package */
export const fixtures: string = new URL('../fixtures/', import.meta.url).pathname

/** a folder of fixtures: `models/llama`, `peft/lora-qv` */
export const fixtureFolder = (path: string): Folder => nodeFolder(`${fixtures}${path}`)

/** a safetensors file of fixtures, held in memory */
export const fixtureTensors = async (path: string): Promise<Checkpoint> =>
  openSafetensors(fromBytes(new Uint8Array(await readFile(`${fixtures}${path}`))))
