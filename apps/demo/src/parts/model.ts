import { type App, again, dropZone, fail } from '../app.ts'
import { byId } from '../form.ts'
import type { Picked } from '../protocol.ts'
import { bytes, count } from '../show.ts'

/** The choice of a model; gives a function that loads what is chosen. */
export const modelChoice = (app: App): (() => Promise<void>) => {
  const mini = byId<HTMLInputElement>('model-mini')
  const own = byId<HTMLInputElement>('model-own')
  const drop = byId('model-drop')
  const input = byId<HTMLInputElement>('model-files')
  const single = byId<HTMLInputElement>('model-gguf')
  const status = byId('model-status')
  let picked: Picked | undefined
  let latest = 0

  const load = async (): Promise<void> => {
    const { client } = app
    const source = own.checked ? picked : 'mini'
    drop.hidden = !own.checked
    fail('model')
    if (!client || !source) {
      status.textContent = ''
      Object.assign(app, { model: undefined, adapter: undefined })
      return app.changed()
    }
    const turn = ++latest
    Object.assign(app, { model: undefined, adapter: undefined })
    app.changed()
    status.textContent = 'Loading…'
    try {
      const model = await client.call('load', source, {
        onEvent: ({ done, of }) => {
          if (turn === latest) status.textContent = `Loading: ${done} of ${of} tensors`
        },
      })
      if (turn !== latest) return
      app.model = model
      const { name, architecture, parameters, layers, width, vocabulary, length } = model
      status.textContent = `${name}: ${architecture}, ${count(parameters)} parameters (${bytes(model.bytes)}), ${layers} layers of width ${width}, ${count(vocabulary)} tokens, reads ${count(length)} at once`
      app.changed()
    } catch (error) {
      if (turn !== latest || app.client !== client) return
      status.textContent = ''
      fail('model', error)
    }
  }

  const take = (files: readonly File[], folder?: string): void => {
    if (!files.length) return
    const [first] = files
    const alone = /\.gguf$/i.test(first!.name) && !first!.webkitRelativePath
    const name = folder ?? (alone ? first!.name : first!.webkitRelativePath.split('/')[0] || 'picked model')
    // a clone of a repository has folders of its own, which no model needs
    picked = { name, files: files.filter((f) => f.webkitRelativePath.split('/').length <= 2) }
    own.checked = true
    choose()
  }
  const choose = (): void => {
    for (const place of ['train', 'compare', 'adapter']) fail(place)
    void load()
  }
  mini.addEventListener('change', choose)
  own.addEventListener('change', choose)
  for (const one of [input, single]) {
    again(one)
    one.addEventListener('change', () => take([...(one.files ?? [])]))
  }
  dropZone(byId('model'), take)
  return load
}
