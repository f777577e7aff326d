/** A Chromium with WebGPU on any machine: the one that @sparticuz/chromium carries, on its own SwiftShader, driven by playwright. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'
import { carried, unpack } from './unpack.mjs'

/** Does the loader find every library? `--version` needs all of them and starts nothing. */
const starts = (/** @type {string} */ executable, /** @type {NodeJS.ProcessEnv} */ env) =>
  spawnSync(executable, ['--version'], { env, stdio: 'ignore', timeout: 60_000 }).status === 0

/** Libraries (nss, nspr, expat) and fonts of the package, for a machine that lacks them. */
const environment = async (/** @type {string} */ executable) => {
  /** @type {Record<string, string>} */
  const env = { ...process.env }
  if (!starts(executable, env)) {
    const libraries = join(await unpack('libraries', ['al2023.tar.br']), 'lib')
    env.LD_LIBRARY_PATH = [libraries, env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter)
    if (!starts(executable, env)) {
      const { stderr } = spawnSync(executable, ['--version'], { env, encoding: 'utf8' })
      throw new Error(`Chromium does not start here: ${stderr.trim()}; name another browser in WEFT_CHROMIUM`)
    }
  }
  if (!existsSync('/etc/fonts/fonts.conf') && !env.FONTCONFIG_FILE) {
    const fonts = await unpack('fonts', ['fonts.tar.br'])
    const file = join(fonts, 'weft-fonts.conf')
    const cache = join(fonts, 'cache')
    await mkdir(cache, { recursive: true })
    await writeFile(
      file,
      `<?xml version="1.0"?><fontconfig><dir>${join(fonts, 'fonts')}</dir><cachedir>${cache}</cachedir></fontconfig>\n`,
    )
    env.FONTCONFIG_FILE = file
  }
  return env
}

/**
 * Starts a headless Chromium whose `navigator.gpu` has an adapter. WEFT_CHROMIUM=path drives another Chromium;
 * where the package has none for this platform, an installed Chrome is used. WEFT_GPU=real leaves the adapter to it.
 * @param {{ args?: readonly string[] }} [options] further command line switches
 * @returns {Promise<import('playwright-core').Browser>}
 */
export const launchBrowser = async ({ args = [] } = {}) => {
  const named = process.env.WEFT_CHROMIUM
  if (named && !existsSync(named)) throw new Error(`WEFT_CHROMIUM: no file ${named}`)
  const adapter = process.env.WEFT_GPU === 'real' ? ['--enable-features=Vulkan'] : ['--use-webgpu-adapter=swiftshader']
  const switches = ['--enable-unsafe-webgpu', ...adapter, '--no-sandbox', ...args]
  if (named) return chromium.launch({ executablePath: named, args: switches })
  if (!carried) return chromium.launch({ channel: 'chrome', args: switches })
  const folder = await unpack('chromium', ['chromium.br', 'swiftshader.tar.br'])
  const executablePath = join(folder, 'chromium')
  return chromium.launch({ executablePath, args: switches, env: await environment(executablePath) })
}
