import voice from '../../../../examples/data/voice.txt?url'
import { type App, again, dropZone, fail } from '../app.ts'
import { byId } from '../form.ts'
import { bytes, plural } from '../show.ts'

const LIMIT = 20e6
const BEGINNING = 700

/** The choice of a text: the example, or a file of one's own. */
export const textChoice = (app: App): void => {
  const own = byId<HTMLInputElement>('text-own')
  const example = byId<HTMLInputElement>('text-voice')
  const drop = byId('text-drop')
  const input = byId<HTMLInputElement>('text-file')
  const status = byId('text-status')
  const preview = byId('text-preview')
  let file: File | undefined

  const read = async (): Promise<{ name: string; blob: Blob } | undefined> => {
    if (!own.checked) {
      const answer = await fetch(voice)
      if (!answer.ok) throw new Error(`The example text did not come (${answer.status}). Load the page again.`)
      return { name: "the cat's log", blob: await answer.blob() }
    }
    return file && { name: file.name, blob: file }
  }
  let latest = 0
  const load = async (): Promise<void> => {
    const turn = ++latest
    drop.hidden = !own.checked
    fail('text')
    app.text = undefined
    status.textContent = ''
    preview.hidden = true
    app.changed()
    try {
      const text = await read()
      if (!text || turn !== latest) return
      const content = await contentOf(text)
      if (turn !== latest) return
      app.text = text
      status.textContent = `${text.name}: ${bytes(text.blob.size)}, ${plural(content.trim().split(/\s+/).length, 'word')}`
      preview.hidden = false
      const cut = content.length > BEGINNING ? `${content.slice(0, BEGINNING).replace(/\s\S*$/, '')} …` : content
      preview.querySelector('blockquote')!.textContent = cut
      app.changed()
    } catch (error) {
      if (turn === latest) fail('text', error)
    }
  }
  const take = (files: readonly File[]): void => {
    if (!files[0]) return
    file = files[0]
    own.checked = true
    void load()
  }
  example.addEventListener('change', load)
  own.addEventListener('change', load)
  again(input)
  input.addEventListener('change', () => take([...(input.files ?? [])]))
  dropZone(byId('text'), take)
  void load()
}

const contentOf = async ({ name, blob }: { name: string; blob: Blob }): Promise<string> => {
  if (blob.size > LIMIT)
    throw new Error(
      `${name} is ${bytes(blob.size)}; this page reads at most ${bytes(LIMIT)}. Take a part of it, or the weft command.`,
    )
  let content: string
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(await blob.arrayBuffer())
  } catch (error) {
    if (error instanceof TypeError)
      throw new Error(`${name} is not plain text in UTF-8: save it as that, or pick another file.`)
    throw new Error(`${name} cannot be read: ${(error as Error).message}`)
  }
  if (content.includes('\0')) throw new Error(`${name} is not plain text: it holds bytes that no text has.`)
  if (!content.trim()) throw new Error(`${name} is empty: pick a file with text.`)
  return content
}
