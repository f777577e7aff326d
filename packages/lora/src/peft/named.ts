import { CheckpointError, type Folder } from '@weftjs/tensor/checkpoint'
import { PEFT_CONFIG } from './names.ts'

/** the name under which PEFT keeps an adapter in the folder itself */
const DEFAULT = 'default'

/** Where a file of an adapter lies in the folder that several share: PEFT has each in a sub-folder of its name. */
export const pathOf = (name: string | undefined, file: string): string => {
  if (name === undefined || name === DEFAULT) return file
  if (!/^[^/\\:]+$/.test(name) || name === '.' || name === '..')
    throw new Error(`the adapter's name ${JSON.stringify(name)} cannot be that of a folder; use a plain one`)
  return `${name}/${file}`
}

/** The folder of one adapter among several that PEFT has written to one folder; `default` is the folder itself. */
export const namedAdapter = (folder: Folder, name: string): Folder => ({
  name: name === DEFAULT ? folder.name : `${folder.name}/${name}`,
  open: (file) => folder.open(pathOf(name, file)),
  has: (file) => folder.has(pathOf(name, file)),
  text: (file) => folder.text(pathOf(name, file)),
})

/**
 * The names of the adapters in a folder, among `names` where it cannot list its files (a server): sub-folders that have an
 * adapter_config.json, and `default` where the folder itself has one.
 */
export const adapterNames = async (folder: Folder, names?: readonly string[]): Promise<string[]> => {
  const found = names ?? (await folder.list?.())
  if (!found)
    throw new CheckpointError('its files cannot be listed; say which names to look for', { file: folder.name })
  const folders = [...new Set(found.map((f) => f.replace(/\/.*$/, '')))].filter((n) => n !== DEFAULT)
  const there: string[] = (await folder.has(PEFT_CONFIG)) ? [DEFAULT] : []
  for (const name of folders)
    if (/^[^/\\:]+$/.test(name) && name !== PEFT_CONFIG && (await folder.has(`${name}/${PEFT_CONFIG}`)))
      there.push(name)
  return there
}

/** A folder with others in it, wherever they lie: the LoRAs of an X-LoRA, by the names that its config has for them. */
export const withAdapters = (folder: Folder, adapters: Readonly<Record<string, Folder>>): Folder => {
  const to = <T>(file: string, use: (folder: Folder, file: string) => T): T => {
    const [, name = '', rest = ''] = /^([^/]+)\/(.+)$/.exec(file) ?? []
    return Object.hasOwn(adapters, name) ? use(adapters[name]!, rest) : use(folder, file)
  }
  return {
    name: folder.name,
    open: (file) => to(file, (f, rest) => f.open(rest)),
    has: (file) => to(file, (f, rest) => f.has(rest)),
    text: (file) => to(file, (f, rest) => f.text(rest)),
  }
}
