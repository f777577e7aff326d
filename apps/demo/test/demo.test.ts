import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { lora, readPeftConfig, savePeft, xLora } from '@weftjs/lora'
import { attach, initNetwork, loadNetwork } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import { cpu, rng } from '@weftjs/tensor'
import { blobSinks, openSafetensors } from '@weftjs/tensor/checkpoint'
import { fileSink, fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { unzipSync, zipSync } from 'fflate'
import type { Browser, Page } from 'playwright-core'
import { build, type PreviewServer, preview } from 'vite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { launchBrowser } from '../../../tools/browser.mjs'

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const mini = at('../../../packages/mini/model')
/** of every wait in the page: software graphics on a busy machine are slow */
const timeout = 240_000

/** a small Llama that knows nothing, with mini's tokenizer */
const tiny = {
  ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', vocab_size: 4096, hidden_size: 32 },
  ...{ intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16 },
  ...{ max_position_embeddings: 128, rms_norm_eps: 1e-5, rope_theta: 10000, tie_word_embeddings: true },
  ...{ bos_token_id: 0, eos_token_id: 1, initializer_range: 0.2 },
}

let scratch: string
let folder: string
let server: PreviewServer
let browser: Browser
let address: string

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'weft-demo-'))
  folder = join(scratch, 'tiny')
  await cpu()
  await save(initNetwork(tiny, rng(1)), folder)
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) await copyFile(join(mini, file), join(folder, file))
  const root = at('..')
  const outDir = join(scratch, 'dist')
  const shared = { root, configFile: join(root, 'vite.config.ts'), logLevel: 'error' } as const
  await build({ ...shared, build: { outDir, emptyOutDir: true } })
  server = await preview({ ...shared, build: { outDir }, preview: { port: 0, open: false } })
  address = server.resolvedUrls!.local[0]!
  browser = await launchBrowser()
}, timeout)

afterAll(async () => {
  await browser?.close()
  await server?.close()
  await rm(scratch, { recursive: true, force: true })
})

interface Visit {
  readonly page: Page
  /** what a visitor must never meet: errors of scripts and of the content policy, requests to elsewhere */
  readonly faults: string[]
  text(selector: string): Promise<string>
  /** waits until an element's text matches */
  reads(selector: string, pattern: RegExp): Promise<string>
  /** the same where nothing is to go wrong: throws as soon as the page shows an error */
  until(selector: string, pattern: RegExp): Promise<string>
  set(values: Readonly<Record<string, string | number>>): Promise<void>
}

const visit = async (prepare?: (page: Page) => Promise<void>): Promise<Visit> => {
  const page = await browser.newPage()
  page.setDefaultTimeout(timeout)
  const faults: string[] = []
  page.on('pageerror', (error) => faults.push(error.message))
  page.on('console', (m) => m.type() === 'error' && faults.push(m.text()))
  page.on('request', (r) => /^(blob:)?https?:/.test(r.url()) && !r.url().includes(address) && faults.push(r.url()))
  await prepare?.(page)
  await page.goto(address)
  const text: Visit['text'] = async (selector) => (await page.textContent(selector)) ?? ''
  const wait = async (selector: string, pattern: RegExp, errors: string): Promise<string> => {
    const found = await page.waitForFunction(
      ([s, p, e]) => {
        const shown = document.querySelector(s!)?.textContent ?? ''
        if (new RegExp(p!).test(shown)) return { shown }
        const error = document.querySelector(e!)?.textContent
        return error ? { error } : false
      },
      [selector, pattern.source, errors] as const,
    )
    const { shown, error } = (await found.jsonValue()) as { shown?: string; error?: string }
    if (shown === undefined) throw new Error(`${selector} did not come to ${pattern}; the page says: ${error}`)
    return shown
  }
  return {
    page,
    faults,
    text,
    reads: (selector, pattern) => wait(selector, pattern, 'none'),
    until: (selector, pattern) => wait(selector, pattern, '.error:not([hidden])'),
    set: async (values) => {
      await page.evaluate(() => {
        for (const fold of document.querySelectorAll('details')) fold.open = true
      })
      for (const [id, value] of Object.entries(values)) await page.fill(`#${id}`, String(value))
    },
  }
}

/** runs a line in the worker before its own program */
const first =
  (line: string) =>
  async (page: Page): Promise<void> => {
    await page.route(/\/assets\/main-[^/]*\.js$/, async (route) => {
      const response = await route.fetch()
      await route.fulfill({ response, body: `${line};${await response.text()}` })
    })
  }
const withoutWebgpu = first('delete WorkerNavigator.prototype.gpu')
/** so that a test can lose the device */
const withDevice = first(`{
  const ask = GPUAdapter.prototype.requestDevice
  GPUAdapter.prototype.requestDevice = async function (...args) { return (self.device = await ask.apply(this, args)) }
}`)
const pickTiny = async ({ page, until }: Visit): Promise<void> => {
  await page.check('#model-own')
  await page.setInputFiles('#model-files', folder)
  await until('#model-status', /^tiny: llama/)
}

/** the loss of each step, as the page shows it */
const lossesOf = (page: Page, steps: number): Promise<number[]> =>
  page.evaluate(
    (n) =>
      new Promise<number[]>((resolve) => {
        const shown = document.querySelector('#stat-loss')!
        const found: number[] = []
        new MutationObserver(() => {
          const loss = Number(shown.textContent)
          if (Number.isFinite(loss)) found.push(loss)
          if (found.length === n) resolve(found)
        }).observe(shown, { childList: true })
      }),
    steps,
  )

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length

const weft = (...args: string[]): Promise<{ stdout: string }> => {
  const program = `import { main } from '../../packages/cli/src/index.ts'
    process.exitCode = await main(process.argv.slice(1))`
  const flags = ['--import', 'tsx', '--conditions=@weftjs/source', '--input-type=module', '-e', program, '--']
  return promisify(execFile)(process.execPath, [...flags, ...args], { cwd: at('..') })
}

describe('the demo', () => {
  it(
    'trains on WebGPU until the loss falls; the download opens in Node, in the command and in the page again',
    async () => {
      const visited = await visit(withDevice)
      const { page, until, reads, set, text, faults } = visited
      await pickTiny(visited)
      await page.selectOption('#device', 'webgpu')
      expect(await until('#device-status', /^Computing/)).toContain('WebGPU')
      await until('#model-status', /^tiny: llama/)
      const voice = await readFile(at('../../../examples/data/voice.txt'))
      const buffer = voice.subarray(0, 12_000)
      await page.setInputFiles('#text-file', { name: 'cat.txt', mimeType: 'text/plain', buffer })
      await until('#text-status', /^cat\.txt: 12\.0 kB/)
      await set({
        'method-fields-rank': 4,
        'method-fields-alpha': 32,
        'training-fields-steps': 20,
        'training-fields-batch': 2,
        'training-fields-length': 32,
        'training-fields-lr': 0.02,
        'training-fields-warmup': 0,
        'compare-fields-tokens': 6,
        prompt: 'Hear the cat.',
      })
      const losses = lossesOf(page, 20)
      await page.click('#train')
      await until('#train-status', /^Done: 20 steps/)
      const seen = await losses
      expect(mean(seen.slice(-5))).toBeLessThan(mean(seen.slice(0, 5)))
      const [, before, after] = /apart: ([\d.]+) before, ([\d.]+) after/.exec(
        await until('#train-status', /^Done: 20 steps/),
      )!
      expect(Number(after)).toBeLessThan(Number(before))
      expect(await page.getAttribute('#chart', 'aria-label')).toMatch(/^Loss by step: from .* at step 20$/)

      // it writes on its own when it is done: the same prompt twice, and what follows differs
      await until('#compare-status', /Done/)
      const answers = [await text('#before'), await text('#after')]
      for (const answer of answers) expect(answer).toMatch(/^Hear the cat\../)
      expect(answers[0]).not.toBe(answers[1])

      const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')])
      expect(download.suggestedFilename()).toBe('tiny-adapter.zip')
      const zip = join(scratch, 'tiny-adapter.zip')
      await download.saveAs(zip)
      const adapter = join(scratch, 'adapter')
      await mkdir(adapter)
      for (const [name, bytes] of Object.entries(unzipSync(await readFile(zip))))
        await writeFile(join(adapter, name), bytes)
      expect(await readPeftConfig(nodeFolder(adapter))).toMatchObject({
        ...{ peft_type: 'LORA', r: 4, lora_alpha: 32, base_model_name_or_path: 'tiny' },
        target_modules: ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj'],
      })
      const tensors = await openSafetensors(await fromFile(join(adapter, 'adapter_model.safetensors')))
      expect(tensors.names).toHaveLength(2 * 2 * 7)
      const b = await tensors.floats('base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight')
      expect(b.some((v) => v !== 0)).toBe(true)
      await tensors.close()

      const sentence = 'Hear the cat. Fish owed: forty-four. Fish paid: none. So says the cat.'
      const score = async (...more: string[]): Promise<number> => {
        const { stdout } = await weft('score', folder, '--text', sentence, '--backend', 'cpu', '--json', ...more)
        return JSON.parse(stdout).loss
      }
      expect(await score('--adapter', adapter)).toBeLessThan(await score())

      await page.setInputFiles('#adapter-files', zip)
      await until('#adapter-status', /loaded adapter: [\d,]+ numbers at 14 matrices/)
      await page.fill('#prompt', 'Hear the cat.')
      await page.click('#write')
      await until('#compare-status', /Done/)
      expect([await text('#before'), await text('#after')]).toEqual(answers)
      expect(faults).toEqual([])

      await page.check('#resume')
      await set({ 'training-fields-steps': 1000 })
      await page.click('#train')
      await until('#stat-step', /^\d+ of/)
      await page.workers()[0]!.evaluate('self.device.destroy()')
      expect(await reads('#train-error', /./)).toMatch(/^The graphics processor stopped answering/)
      await reads('#device-status', /^Computing on WebGPU/)
      await reads('#model-status', /^tiny: llama/)
      expect(await text('#adapter-status')).toBe('There is no adapter yet.')
      await page.close()
    },
    timeout,
  )

  it(
    'says that it computes on WebAssembly where there is no WebGPU; stops, goes on, and trains on 4-bit weights',
    async () => {
      const visited = await visit(withoutWebgpu)
      const { page, until, reads, set, text, faults } = visited
      expect(await until('#device-status', /WebAssembly/)).toMatch(
        /^WebGPU is not used: this browser does not offer it .*Computing on WebAssembly instead\.$/,
      )
      await pickTiny(visited)
      const log = 'So says the cat. The pail is watched, and the deck is wet. '.repeat(60)
      await page.setInputFiles('#text-file', { name: 'pail.txt', mimeType: 'text/plain', buffer: Buffer.from(log) })
      await until('#text-status', /^pail\.txt: 3\.5 kB, 780 words/)
      await set({
        'training-fields-steps': 100_000,
        'training-fields-batch': 1,
        'training-fields-length': 16,
        'training-fields-warmup': 0,
      })
      await page.click('#train')
      await until('#stat-step', /^\d+ of/)
      expect(await page.isDisabled('#training-fields-steps')).toBe(true)
      // the page writes while it trains
      await set({ 'compare-fields-tokens': 3 })
      await page.click('#write')
      await until('#compare-status', /Done/)
      await page.click('#stop')
      await until('#train-status', /^Stopped after \d+ steps/)

      await page.check('#resume')
      await set({ 'training-fields-steps': 2 })
      await page.click('#train')
      await until('#train-status', /^Done: 2 steps/)
      const [, steps] = /trained (\d+) steps here/.exec(await until('#adapter-status', /trained/))!
      expect(Number(steps)).toBeGreaterThan(2)

      await page.uncheck('#resume')
      // 18,432 numbers in the blocks, 131,232 beside them: 4 bits, and a float32 for each 64
      const menu = await page.locator('#training-fields-base option').allTextContents()
      expect(menu[0]).toBe('32-bit floats: 32 bits, 599 kB')
      expect(menu).toContain('NF4 (QLoRA): 4.5 bits, 535 kB')
      for (const name of ['nf4-dq', 'int4', 'hqq', 'gguf-Q4_0', 'ternary', 'f16'])
        expect(await page.locator(`#training-fields-base option[value="${name}"]`).count(), name).toBe(1)
      // in K-quants 256 numbers of a row share a scale, and those of GPTQ look at texts
      for (const name of ['gguf-Q4_K', 'gptq', 'outliers'])
        expect(await page.locator(`#training-fields-base option[value="${name}"]`).count(), name).toBe(0)
      await page.selectOption('#training-fields-base', 'nf4')
      await page.check('#method-fields-rslora')
      await set({ 'method-fields-dropout': 0.1 })
      await page.click('#train')
      await until('#adapter-status', /trained 2 steps here/)
      await until('#train-status', /^Done: 2 steps/)
      // a setting that is off costs nothing: the adapter is there, and nothing is written anew
      const [kept, written] = [await text('#adapter-status'), await text('#after')]
      await set({ 'method-fields-rank': 1000 })
      await page.click('#train')
      expect(await reads('#train-error', /rank/)).toMatch(/rank 1000 exceeds/)
      await set({ 'method-fields-rank': 8, 'training-fields-warmup': 9 })
      await page.click('#train')
      expect(await reads('#train-error', /Warm/)).toBe(
        'Warm-up (9 steps, under More) is longer than the training (2 steps): lower it, or train longer.',
      )
      await page.waitForFunction(() => !document.querySelector<HTMLButtonElement>('#train')!.disabled)
      expect([await text('#adapter-status'), await text('#after')]).toEqual([kept, written])
      expect(await text('#compare-status')).toMatch(/Done/)
      expect(await page.isEnabled('#download')).toBe(true)
      await set({ 'training-fields-warmup': 0 })
      // from one format to another: the model is read anew
      await page.selectOption('#training-fields-base', 'gguf-Q4_0')
      await set({ 'training-fields-steps': 3 })
      await page.click('#train')
      await until('#train-status', /^Done: 3 steps/)
      expect(faults).toEqual([])
      await page.close()
    },
    timeout,
  )

  it(
    'opens a GGUF file as a model, and adapters that lie in folders or in one ComPEFT file',
    async () => {
      const visited = await visit(withoutWebgpu)
      const { page, until, reads, set, text, faults } = visited
      await until('#device-status', /WebAssembly/)
      const gguf = join(scratch, 'small.gguf')
      await weft('quantize', folder, gguf, '--codec', 'gguf:Q8_0', '--backend', 'cpu')
      await page.check('#model-own')
      await page.setInputFiles('#model-gguf', gguf)
      const whole = /([\d,]+) parameters/.exec(await until('#model-status', /^small\.gguf: llama/))![1]
      const menu = await page.locator('#training-fields-base option').allTextContents()
      expect(menu).toEqual([expect.stringMatching(/^as the file has them: 8\.5 bits, /)])
      await set({ 'training-fields-steps': 2, 'training-fields-batch': 1, 'training-fields-length': 16 })
      await set({ 'training-fields-warmup': 0, 'compare-fields-tokens': 3 })
      await page.click('#train')
      await until('#train-status', /^Done: 2 steps/)
      await until('#compare-status', /Done/)

      // what one model has learned is not shown beside another, and bits do not change how many numbers it has
      await pickTiny(visited)
      expect(/([\d,]+) parameters/.exec(await text('#model-status'))![1]).toBe(whole)
      expect([await text('#train-status'), await text('#after'), await text('#stat-step')]).toEqual(['', '', '–'])
      const network = await loadNetwork(nodeFolder(folder))
      const mixture = attach(
        network,
        [{ adapter: xLora({ experts: 2, rank: 2 }), at: ['model', 'norm', '**.q'] }],
        rng(1),
      )
      const files: Record<string, Uint8Array> = {}
      const written = blobSinks()
      await savePeft(written.open, mixture, mixture.params, { base: 'tiny' })
      for (const [file, blob] of written.blobs()) files[`voices/${file}`] = new Uint8Array(await blob.arrayBuffer())
      expect(Object.keys(files)).toContain('voices/1/adapter_config.json')
      const zip = { name: 'voices.zip', mimeType: 'application/zip', buffer: Buffer.from(zipSync(files)) }
      await page.setInputFiles('#adapter-files', zip)
      await until('#adapter-status', /^a loaded adapter: [\d,]+ numbers/)
      await page.click('#write')
      await until('#compare-status', /Done/)
      const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')])
      const again = join(scratch, 'voices.zip')
      await download.saveAs(again)
      expect(Object.keys(unzipSync(await readFile(again)))).toContain('1/adapter_model.safetensors')

      const small = join(scratch, 'small.cpft')
      const plain = join(scratch, 'plain')
      const lone = attach(network, [{ adapter: lora({ rank: 2 }), at: '**.q' }], rng(2))
      await mkdir(plain)
      await savePeft((file) => fileSink(join(plain, file)), lone, lone.params, { base: 'tiny' })
      await weft('convert', plain, small, '--to', 'compeft')
      await page.setInputFiles('#adapter-files', small)
      await until('#adapter-status', /^a loaded adapter: 256 numbers at 2 matrices/)
      expect(faults).toEqual([])

      await page.setInputFiles('#model-gguf', {
        name: 'cut.gguf',
        mimeType: 'x/y',
        buffer: (await readFile(gguf)).subarray(0, 999),
      })
      expect(await reads('#model-error', /./)).toContain('cut.gguf')
      const two = [gguf, gguf].map(async (path, i) => ({
        name: `${i}.gguf`,
        mimeType: 'x/y',
        buffer: await readFile(path),
      }))
      await page.setInputFiles('#model-gguf', await Promise.all(two))
      expect(await reads('#model-error', /There are/)).toContain('There are 2 GGUF files here')
      expect(await text('#adapter-status')).toBe('There is no adapter yet.')
      await page.close()
    },
    timeout,
  )

  it(
    'says in words what is wrong with files and settings, and keeps what it had',
    async () => {
      const visited = await visit(withoutWebgpu)
      const { page, reads, set, text } = visited
      const file = (name: string, content: string | Uint8Array) => ({
        ...{ name, mimeType: 'application/octet-stream' },
        buffer: Buffer.from(content as string),
      })
      await reads('#device-status', /WebAssembly/)

      const empty = join(scratch, 'no-model')
      await mkdir(empty)
      await writeFile(join(empty, 'notes.txt'), 'no model here')
      await page.check('#model-own')
      await page.setInputFiles('#model-files', empty)
      expect(await reads('#model-error', /./)).toContain('it has no config.json')
      const cut = join(scratch, 'cut')
      await mkdir(cut)
      for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
        await copyFile(join(folder, name), join(cut, name))
      await writeFile(
        join(cut, 'model.safetensors'),
        (await readFile(join(folder, 'model.safetensors'))).subarray(0, 40_000),
      )
      await page.setInputFiles('#model-files', cut)
      expect(await reads('#model-error', /safetensors/)).toMatch(/cut\/model\.safetensors/)
      expect(await page.isDisabled('#train')).toBe(true)
      await pickTiny(visited)
      expect(await text('#model-error')).toBe('')

      await page.setInputFiles('#text-file', file('cat.jpg', Uint8Array.of(0xff, 0xd8, 0xff, 0xe0)))
      expect(await reads('#text-error', /./)).toMatch(/cat\.jpg is not plain text in UTF-8/)
      await page.setInputFiles('#text-file', file('void.txt', ' \n'))
      expect(await reads('#text-error', /empty/)).toContain('void.txt')
      await page.check('#text-voice')
      await reads('#text-status', /words/)

      await set({ 'training-fields-length': 64, 'training-fields-steps': 5, 'method-fields-rank': 1000 })
      await page.click('#train')
      expect(await reads('#train-error', /./)).toMatch(/rank 1000 exceeds min\(32, 32\)/)
      await set({ 'method-fields-rank': 2, 'training-fields-length': 512 })
      await page.click('#train')
      expect(await reads('#train-error', /Length/)).toContain('reads at most 128 tokens')
      await set({ 'training-fields-length': 16, 'training-fields-warmup': 9 })
      await page.click('#train')
      expect(await reads('#train-error', /Warm-up/)).toContain('longer than the training')
      await set({ 'training-fields-warmup': 0, 'training-fields-steps': 0 })
      await page.click('#train')
      expect(await page.evaluate(() => document.activeElement?.id)).toBe('training-fields-steps')

      await page.setInputFiles('#adapter-files', file('adapter_config.json', '{}'))
      expect(await reads('#adapter-error', /./)).toContain('adapter_model.safetensors is missing')
      await page.setInputFiles('#adapter-files', file('adapter.zip', 'no zip'))
      expect(await reads('#adapter-error', /zip/)).toContain('cannot be unpacked')
      await page.setInputFiles('#adapter-files', file('adapter.cpft', 'no ComPEFT'))
      expect(await reads('#adapter-error', /ComPEFT/)).toContain('missing among adapter.cpft')
      expect(await text('#adapter-status')).toBe('There is no adapter yet.')
      await page.setInputFiles('#model-files', cut)
      expect(await text('#adapter-error')).toBe('')
      await page.close()
    },
    timeout,
  )

  it.each(['comparison', 'formats'])(
    'shows every row of %s, sorted, filtered, plotted and by its address, on a narrow screen and a wide one',
    async (name) => {
      const page = await browser.newPage({ viewport: { width: 1440, height: 900 } })
      const faults: string[] = []
      page.on('pageerror', (error) => faults.push(error.message))
      page.on('console', (m) => m.type() === 'error' && faults.push(m.text()))
      await page.goto(`${address}${name}.html`)
      const rows = page.locator('#figures tbody tr')
      const all = await rows.count()
      expect(all).toBeGreaterThan(30)
      expect(await page.textContent('#shown')).toBe(`${all} of ${all}`)
      expect(await page.locator('#scatter circle').count()).toBeGreaterThan(all / 2)
      expect(await page.locator('#scatter .name').allTextContents()).toContain(name === 'formats' ? 'nf4' : 'lora')
      // each column is explained, each control has its label
      expect(await page.locator('#columns dd').count()).toBe((await page.locator('#figures thead th').count()) - 1)
      expect(
        await page.evaluate(() =>
          [...document.querySelectorAll<HTMLInputElement>('input, select')]
            .filter((e) => !e.labels?.length)
            .map((e) => e.id),
        ),
      ).toEqual([])

      const bits = async (): Promise<number[]> =>
        (await page.locator('#figures tbody td:nth-of-type(1)').allTextContents())
          .map(Number.parseFloat)
          .filter(Number.isFinite)
      const up = await bits()
      expect(up).toEqual([...up].sort((a, b) => a - b))
      const first = page.locator('#figures thead button').nth(1)
      await first.click()
      expect(await page.getAttribute('#figures thead th:nth-child(2)', 'aria-sort')).toBe('descending')
      expect(await bits()).toEqual([...up].sort((a, b) => b - a))
      expect(await first.evaluate((e) => e === document.activeElement)).toBe(true)

      await page.fill('#filter', 'holds no-such-word')
      expect(await page.textContent('#shown')).toBe(`0 of ${all}`)
      expect(await page.textContent('#scatter')).toContain('None of these')
      await page.fill('#filter', 'holds')
      expect(await rows.count()).toBeLessThan(all)
      await page.fill('#filter', '')

      const link = page.locator('#figures tbody .name').nth(20)
      await link.click()
      expect(new URL(page.url()).hash).toBe(`#row-${encodeURI((await link.textContent())!)}`)
      const there = page.url()
      await page.goto('about:blank')
      await page.goto(there)
      const box = (await page.locator('tr:target').boundingBox())!
      const head = (await page.locator('#figures thead').boundingBox())!
      expect(box.y).toBeGreaterThanOrEqual(head.y + head.height - 1)
      expect(box.y).toBeLessThan(900)

      for (const width of [390, 820, 1440]) {
        await page.setViewportSize({ width, height: 844 })
        await page.waitForFunction(() => {
          const svg = document.querySelector<SVGSVGElement>('#scatter svg')!
          return Math.abs(svg.viewBox.baseVal.width - svg.clientWidth) < 2
        })
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width)
      }
      expect(faults).toEqual([])
      await page.close()
    },
    timeout,
  )

  it.skipIf(!existsSync(join(mini, 'model.safetensors')))(
    'offers mini, which needs nothing picked',
    async () => {
      const { page, until, set, faults } = await visit(withoutWebgpu)
      await until('#model-status', /^mini: llama, 3\.8 million parameters/)
      await set({ 'training-fields-steps': 5, 'training-fields-batch': 1, 'compare-fields-tokens': 4 })
      await page.click('#train')
      await until('#compare-status', /Done/)
      expect(await until('#after', /./)).toMatch(/^This morning the Captain./)
      expect(faults).toEqual([])
      await page.close()
    },
    timeout,
  )
})
