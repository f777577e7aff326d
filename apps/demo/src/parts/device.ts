import { type App, fail } from '../app.ts'
import { client } from '../client.ts'
import { byId } from '../form.ts'
import type { Choice, Device } from '../protocol.ts'

const NAMES: Readonly<Record<string, string>> = { webgpu: 'WebGPU', wasm: 'WebAssembly', cpu: 'plain JavaScript' }

const tell = ({ name, device, fallback }: Device): string => {
  const on = `${NAMES[name] ?? name}${name === 'webgpu' && device ? ` (${device})` : ''}`
  return fallback ? `WebGPU is not used: ${fallback}. Computing on ${on} instead.` : `Computing on ${on}.`
}

/** The menu of backends: each choice is a worker of its own, and the model is loaded there anew. */
export const device = (app: App, load: () => Promise<void>): void => {
  const menu = byId<HTMLSelectElement>('device')
  const status = byId('device-status')
  const start = async (): Promise<void> => {
    app.client?.close()
    const worker = new Worker(new URL('../worker/main.ts', import.meta.url), { type: 'module', name: 'weft' })
    const mine = client(worker, () => {
      if (app.client === mine) void start()
    })
    Object.assign(app, { client: mine, model: undefined, adapter: undefined })
    app.changed()
    fail('device')
    status.textContent = 'Starting…'
    delete status.parentElement!.dataset['fallback']
    try {
      const found = await mine.call('start', menu.value as Choice)
      status.textContent = tell(found)
      status.parentElement!.toggleAttribute('data-fallback', found.fallback !== undefined)
      await load()
    } catch (error) {
      if (app.client !== mine) return
      status.textContent = ''
      fail('device', `${NAMES[menu.value] ?? 'No backend'} cannot be used here. ${(error as Error).message}`)
    }
  }
  menu.addEventListener('change', start)
  app.onChange(() => {
    menu.disabled = app.training
  })
  void start()
}
