import { type App, fail, passFocus } from '../app.ts'
import { writing } from '../fields.ts'
import { byId, draw, element, values } from '../form.ts'

/** The two answers, side by side as they are written; gives a function that begins. */
export const comparison = (app: App): (() => void) => {
  const form = byId<HTMLFormElement>('compare')
  const fields = byId('compare-fields')
  const prompt = byId<HTMLTextAreaElement>('prompt')
  const start = byId<HTMLButtonElement>('write')
  const stop = byId<HTMLButtonElement>('write-stop')
  const status = byId('compare-status')
  const shown = { before: byId('before'), after: byId('after') }
  draw(fields, writing)

  let of = app.model
  app.onChange(() => {
    if (app.model && app.model !== of) {
      for (const output of of ? Object.values(shown) : []) output.replaceChildren()
      if (of) status.textContent = ''
      of = app.model
    }
    start.disabled = !app.model || app.writing
    stop.disabled = !app.writing
  })
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    const { client, model } = app
    const options = values(fields, writing)
    if (!client || !model || !options || app.writing || !prompt.reportValidity()) return
    const controller = new AbortController()
    const onStop = (): void => controller.abort()
    const begin = (): HTMLElement => element('span', { className: 'prompt' }, prompt.value)
    const two = app.adapter !== undefined || app.training
    shown.before.replaceChildren(begin())
    shown.after.replaceChildren(two ? begin() : 'Train an adapter, or load one: then it writes here.')
    for (const output of Object.values(shown)) output.setAttribute('aria-busy', 'true')
    fail('compare')
    status.textContent = 'Writing…'
    app.writing = true
    passFocus(start, stop)
    app.changed()
    stop.addEventListener('click', onStop)
    try {
      await client.call(
        'generate',
        { prompt: prompt.value, ...options },
        {
          signal: controller.signal,
          onEvent: ({ row, text }) => {
            shown[row].append(text)
            shown[row].scrollTop = shown[row].scrollHeight
          },
        },
      )
      status.textContent = controller.signal.aborted ? 'Stopped.' : 'Done.'
    } catch (error) {
      status.textContent = ''
      if (app.client === client) fail('compare', error)
    } finally {
      stop.removeEventListener('click', onStop)
      for (const output of Object.values(shown)) output.removeAttribute('aria-busy')
      app.writing = false
      passFocus(stop, start)
      app.changed()
    }
  })
  return () => {
    if (!app.writing) form.requestSubmit()
  }
}
