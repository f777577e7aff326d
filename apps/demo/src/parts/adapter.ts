import { strToU8, zipSync } from 'fflate'
import { type App, fail } from '../app.ts'
import { byId, element } from '../form.ts'
import type { Adapter } from '../protocol.ts'
import { bytes, plural } from '../show.ts'

const told = ({ title, parameters, sites, steps }: Adapter): string =>
  `${title}: ${plural(parameters, 'number')} at ${sites} matrices${steps ? `, trained ${plural(steps, 'step')} here` : ''}.`

/** The adapter as a zip of PEFT's files, and back. */
export const adapterFiles = (app: App): void => {
  const download = byId<HTMLButtonElement>('download')
  const input = byId<HTMLInputElement>('adapter-files')
  const status = byId('adapter-status')
  let last = [app.adapter, app.model]
  app.onChange(() => {
    // what was wrong with a file is of no account once there is another adapter or model
    const now = [app.adapter, app.model]
    if (now.some((v, i) => v !== last[i])) fail('adapter')
    last = now
    download.disabled = !app.adapter
    input.disabled = !app.model || app.training || app.writing
    status.textContent = app.adapter ? told(app.adapter) : 'There is no adapter yet.'
  })

  download.addEventListener('click', async () => {
    fail('adapter')
    try {
      const files = await app.client!.call('save', undefined)
      const entries = await Promise.all(
        Object.entries(files).map(async ([name, blob]) => [name, new Uint8Array(await blob.arrayBuffer())] as const),
      )
      const readme = strToU8("An adapter in PEFT's format. weft score mini --adapter THIS_FOLDER --text '...'\n")
      // numbers hardly shrink: stored as they are
      const zip = zipSync({ ...Object.fromEntries(entries), 'README.txt': readme }, { level: 0 })
      const url = URL.createObjectURL(new Blob([zip as BlobPart], { type: 'application/zip' }))
      element('a', { href: url, download: `${app.model!.name}-adapter.zip` }).click()
      // the browser has taken it by then
      setTimeout(() => URL.revokeObjectURL(url), 60_000)
      status.textContent = `${told(app.adapter!)} The zip has ${bytes(zip.length)}.`
    } catch (error) {
      fail('adapter', error)
    }
  })
  input.addEventListener('change', async () => {
    const files = [...(input.files ?? [])]
    input.value = ''
    if (!files.length) return
    fail('adapter')
    status.textContent = 'Loading…'
    try {
      app.adapter = await app.client!.call('adapter', files)
    } catch (error) {
      fail('adapter', error)
    }
    app.changed()
  })
}
