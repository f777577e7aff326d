import { mkdir, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { neededOf } from '@weftjs/model/hub'
import { type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { saveCheckpoint } from '@weftjs/tensor/checkpoint/file'
import { parseDocument } from 'yaml'
import { startBackend } from '../backends.ts'
import { type Command, SHARED } from '../command.ts'
import { Failure } from '../fail.ts'
import { openFolder } from '../models.ts'
import { print, printJson, status, statusDone } from '../terminal.ts'

export const merge: Command = {
  name: 'merge',
  summary: 'Merges checkpoints as a mergekit YAML file says, a tensor at a time.',
  args: ['CONFIG.yaml', 'OUT'],
  options: { backend: SHARED.backend, json: { help: 'print what was written as JSON' } },
  examples: ['weft merge ties.yaml merged'],
  run: async ({ args: [path, out], text, flag }) => {
    void [
      mkdir,
      readFile,
      resolve,
      mergeCheckpoints,
      neededOf,
      openCheckpoint,
      saveCheckpoint,
      parseDocument,
      startBackend,
      openFolder,
      print,
      printJson,
      status,
      statusDone,
      path,
      out,
      text,
      flag,
    ]
    throw new Failure('not yet')
  },
}
export type { Folder }
