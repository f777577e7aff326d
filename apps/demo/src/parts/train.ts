import { type App, fail, passFocus } from '../app.ts'
import { lossChart } from '../chart.ts'
import { type About, training } from '../fields.ts'
import { byId, draw, element, values } from '../form.ts'
import type { Model, StepEvent, Trained, TrainRequest } from '../protocol.ts'
import { bits as bitsText, bytes, clock, count, plural } from '../show.ts'

/** the menu of methods: what the files of the folder say of themselves, without their code */
const methods = Object.fromEntries(
  Object.entries(import.meta.glob<About>('../methods/*.ts', { eager: true, import: 'about' })).map(([path, about]) => [
    path.replace(/^.*\/|\.ts$/g, ''),
    about,
  ]),
)

/** Settings of the adapter and of its training, and the training itself; calls `done` when it has come to its end. */
export const trainer = (app: App, done: () => void): void => {
  const menu = byId<HTMLSelectElement>('method-name')
  const methodFields = byId('method-fields')
  const trainingFields = byId('training-fields')
  const resume = byId<HTMLInputElement>('resume')
  const start = byId<HTMLButtonElement>('train')
  const stop = byId<HTMLButtonElement>('stop')
  const status = byId('train-status')
  const progress = byId<HTMLProgressElement>('progress')
  const chart = lossChart(byId('chart'))

  const titled = Object.entries(methods).sort(([, a], [, b]) => a.title.localeCompare(b.title))
  menu.append(...titled.map(([value, { title }]) => element('option', { value, selected: value === 'lora' }, title)))
  const drawMethod = (): void => {
    const about = methods[menu.value]!
    byId('method-summary').textContent = about.summary
    draw(methodFields, about.fields)
  }
  menu.addEventListener('change', drawMethod)
  drawMethod()
  draw(trainingFields, training)

  const parts = byId('parts').querySelector('div')!
  let shown = ''
  const drawParts = (names: readonly string[]): void => {
    if (shown === names.join()) return
    shown = names.join()
    parts.replaceChildren(
      ...names.map((name) => {
        const id = `part-${name}`
        const box = element('input', { type: 'checkbox', id, value: name, checked: true })
        return element('div', { className: 'choice' }, box, element('label', { htmlFor: id }, name))
      }),
    )
  }
  const base = trainingFields.querySelector<HTMLSelectElement>('[name="base"]')!
  let offered: Model['bases'] | undefined
  const drawBases = (bases: Model['bases']): void => {
    if (offered === bases) return
    offered = bases
    const kept = bases.some((b) => b.name === base.value) ? base.value : bases[0]!.name
    base.replaceChildren(
      ...bases.map(({ name, title, bits, bytes: size }) =>
        element('option', { value: name, selected: name === kept }, `${title}: ${bitsText(bits)}, ${bytes(size)}`),
      ),
    )
  }
  let of: Model | undefined
  const state = (): void => {
    const { model, adapter, text } = app
    if (model && model !== of) {
      // what another model has learned
      if (of) {
        status.textContent = ''
        progress.value = 0
        chart.clear()
        stats(0)
      }
      of = model
    }
    if (model) {
      drawParts(model.parts)
      drawBases(model.bases)
    }
    byId('resume-choice').hidden = !adapter
    if (!adapter) resume.checked = false
    byId('fresh').inert = resume.checked
    base.disabled = resume.checked
    for (const group of byId('setup').querySelectorAll<HTMLFieldSetElement>(':scope > fieldset'))
      group.disabled = app.training
    start.disabled = app.training || !model || !text
    if (!app.training) stop.disabled = true
  }
  resume.addEventListener('change', state)
  app.onChange(state)

  byId('setup').addEventListener('submit', async (event) => {
    event.preventDefault()
    const { client, model, text } = app
    if (!client || !model || !text || app.training) return
    const settings = values(trainingFields, training)
    const options = resume.checked ? {} : values(methodFields, methods[menu.value]!.fields)
    if (!settings || !options) return
    const request: TrainRequest = {
      settings,
      options,
      text,
      method: menu.value,
      parts: [...parts.querySelectorAll<HTMLInputElement>(':checked')].map((box) => box.value),
      resume: resume.checked,
    }
    const controller = new AbortController()
    const onStop = (): void => {
      controller.abort()
      status.textContent = 'Stopping after this step…'
    }
    app.training = true
    fail('train')
    chart.clear()
    const show = stats(settings.steps)
    progress.removeAttribute('value')
    status.textContent = 'Starting…'
    passFocus(start, stop)
    app.changed()
    stop.disabled = false
    stop.addEventListener('click', onStop)
    const began = performance.now()
    let finished = false
    try {
      const result = await client.call('train', request, {
        signal: controller.signal,
        onEvent: (told) => {
          if ('note' in told) {
            if (!controller.signal.aborted) status.textContent = told.note
            return
          }
          if (told.step === 1 && !controller.signal.aborted)
            status.textContent = `Training ${count(told.parameters)} numbers.`
          progress.value = told.step / settings.steps
          chart.add(told.step, told.loss)
          show(told)
        },
      })
      app.adapter = result.adapter
      finished = true
      status.textContent = summary(result, (performance.now() - began) / 1000)
      if (result.stopped) progress.value = 0
    } catch (error) {
      status.textContent = ''
      progress.value = 0
      // a setting that is off has cost nothing; the worker knows what is left, unless it is gone itself
      app.adapter = await client.call('current', undefined).catch(() => undefined)
      fail('train', error)
    } finally {
      stop.removeEventListener('click', onStop)
      app.training = false
      passFocus(stop, start)
      app.changed()
    }
    if (finished && !controller.signal.aborted) done()
  })
}

const summary = ({ steps, stopped, before, after, notes }: Trained, seconds: number): string =>
  [
    `${stopped ? 'Stopped after' : 'Done:'} ${plural(steps, 'step')} in ${clock(seconds)}.`,
    ...(before !== undefined && after !== undefined
      ? [`Loss on text kept apart: ${before.toFixed(2)} before, ${after.toFixed(2)} after.`]
      : []),
    ...notes.map((n) => `${n}.`),
  ].join(' ')

/** steps that the speed is averaged over */
const WINDOW = 10

const stats = (steps: number): ((event: StepEvent) => void) => {
  const set = (name: string, text: string): void => {
    byId(`stat-${name}`).textContent = text
  }
  for (const name of ['step', 'loss', 'speed', 'memory', 'peak', 'left']) set(name, '–')
  const times: number[] = []
  return ({ step, loss, milliseconds, tokens, bytes: held, peak }) => {
    times.push(performance.now())
    if (times.length > WINDOW) times.shift()
    const each = times.length > 1 ? (times.at(-1)! - times[0]!) / (times.length - 1) : milliseconds
    set('step', `${step} of ${steps}`)
    set('loss', loss.toFixed(3))
    set('speed', Math.round((1000 * tokens) / each).toLocaleString('en'))
    set('memory', bytes(held))
    set('peak', bytes(peak))
    set('left', step === steps ? '0:00' : clock(((steps - step) * each) / 1000))
  }
}
