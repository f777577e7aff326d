/**
 * Vulkan in software for Dawn (npm `webgpu`) on a machine without a GPU, from nothing but npm.
 * As a program: node tools/swiftshader.mjs -- COMMAND ARGS   runs COMMAND where Dawn finds an adapter.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { carried, unpack } from './unpack.mjs'

const probe = `
const { create } = await import('webgpu')
const adapter = await create([]).requestAdapter()
const { vendor = '', architecture = '', description = '' } = adapter?.info ?? {}
const software = /swiftshader|llvmpipe|lavapipe/i.test([vendor, architecture, description].join(' '))
process.exit(adapter && !software ? 0 : 1)`

/** Does Dawn find a GPU that is not software? Asked of a child, and only where a device file hints at one. */
const realGpu = () => {
  if (process.platform !== 'linux') return true
  const hint =
    existsSync('/dev/nvidia0') ||
    (existsSync('/dev/dri') && readdirSync('/dev/dri').some((n) => n.startsWith('render')))
  if (!hint) return false
  const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', probe], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    stdio: 'ignore',
    timeout: 20_000,
  })
  return status === 0
}

/**
 * Environment under which a child process finds software Vulkan; {} where a real GPU answers or none can be supplied.
 * WEFT_GPU=real never sets it, WEFT_GPU=software always does.
 * @returns {Promise<Record<string, string>>}
 */
export const softwareVulkan = async () => {
  const asked = process.env.WEFT_GPU ?? ''
  if (!['', 'real', 'software'].includes(asked))
    throw new Error(`WEFT_GPU: expected "real" or "software", found "${asked}"`)
  if (!carried || asked === 'real' || (asked !== 'software' && realGpu())) return {}
  const folder = await unpack('swiftshader', ['swiftshader.tar.br'], (name) => /vulkan|vk_/.test(name))
  return {
    VK_ICD_FILENAMES: join(folder, 'vk_swiftshader_icd.json'),
    LD_LIBRARY_PATH: [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter),
  }
}

/**
 * Runs a command on this terminal and passes signals on; → its exit code, 128 + n where signal n ended it.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ env?: Record<string, string | undefined>, cwd?: string }} [options]
 * @returns {Promise<number>}
 */
export const run = (command, args, { env = process.env, cwd = process.cwd() } = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', env, cwd, shell: process.platform === 'win32' })
    /** @type {NodeJS.Signals[]} */
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
    const pass = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal)
    const release = () => {
      for (const signal of signals) process.off(signal, pass)
    }
    for (const signal of signals) process.on(signal, pass)
    child.once('error', (error) => {
      release()
      reject(error)
    })
    child.once('exit', (code, signal) => {
      release()
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0))
    })
  })

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [command, ...args] = process.argv.slice(process.argv[2] === '--' ? 3 : 2)
  if (command === undefined) {
    console.error('usage: node tools/swiftshader.mjs -- COMMAND [ARGS]')
    process.exitCode = 2
  } else {
    try {
      process.exitCode = await run(command, args, { env: { ...process.env, ...(await softwareVulkan()) } })
    } catch (error) {
      console.error(`${command}: ${error instanceof Error ? error.message : error}`)
      process.exitCode = 127
    }
  }
}
