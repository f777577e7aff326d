import type { Client } from './client.ts'
import { byId } from './form.ts'
import type { Adapter, Model } from './protocol.ts'

/** What the parts of the page share. */
export interface App {
  client: Client | undefined
  model: Model | undefined
  adapter: Adapter | undefined
  /** the text to learn from */
  text: { readonly name: string; readonly blob: Blob } | undefined
  training: boolean
  writing: boolean
  /** tells every part that something of this has changed */
  changed(): void
  onChange(listener: () => void): void
}

export const createApp = (): App => {
  const listeners: (() => void)[] = []
  return {
    client: undefined,
    model: undefined,
    adapter: undefined,
    text: undefined,
    training: false,
    writing: false,
    changed: () => {
      for (const listener of listeners) listener()
    },
    onChange: (listener) => void listeners.push(listener),
  }
}

/** Shows an error in its place, or takes it away. */
export const fail = (place: string, error?: unknown): void => {
  const shown = byId(`${place}-error`)
  shown.hidden = error === undefined
  shown.textContent = error === undefined ? '' : error instanceof Error ? error.message : String(error)
}

/** A file that was mended since can be picked again: a browser tells only of another one. */
export const again = (input: HTMLInputElement): void => {
  input.addEventListener('click', () => {
    input.value = ''
  })
}

/** Files dropped on an element; of a folder, those that lie directly in it. */
export const dropZone = (
  zone: HTMLElement,
  onDrop: (files: readonly File[], folder: string | undefined) => void,
): void => {
  zone.addEventListener('dragover', (event) => {
    event.preventDefault()
    zone.classList.add('over')
  })
  zone.addEventListener('dragleave', () => zone.classList.remove('over'))
  zone.addEventListener('drop', async (event) => {
    event.preventDefault()
    zone.classList.remove('over')
    const { items, files } = event.dataTransfer!
    const plain = [...files]
    const entry = items[0]?.webkitGetAsEntry?.()
    if (entry?.isDirectory) onDrop(await filesOf(entry as FileSystemDirectoryEntry), entry.name)
    else onDrop(plain, undefined)
  })
}

const filesOf = async (folder: FileSystemDirectoryEntry): Promise<File[]> => {
  const reader = folder.createReader()
  const files: File[] = []
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((done, refuse) => reader.readEntries(done, refuse))
    if (!entries.length) return files
    for (const e of entries)
      if (e.isFile) files.push(await new Promise<File>((done, refuse) => (e as FileSystemFileEntry).file(done, refuse)))
  }
}

/** Keeps the focus where something can be done: on `to`, when `from` has it and is about to be switched off. */
export const passFocus = (from: HTMLButtonElement, to: HTMLButtonElement): void => {
  if (document.activeElement !== from) return
  to.disabled = false
  to.focus()
}
