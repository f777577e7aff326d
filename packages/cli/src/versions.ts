import { readFileSync } from 'node:fs'

const own = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

/** what a run was made with */
export const versions: Readonly<Record<string, string>> = { weft: own.version, node: process.versions.node }
