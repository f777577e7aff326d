/**
 * llama.cpp, as npm's node-llama-cpp carries it, for what is tried against it.
 *
 *     node tools/llama-cpp.mjs install     into .cache/llama-cpp: 85 MB, no compiler, nothing but npm
 *     node tools/llama-cpp.mjs run         reads jobs as JSON from stdin, writes their answers as JSON
 *
 * A job: { model, lora?, scale?, prompts: [text or ids], tokens? }, with paths of GGUF files. An answer, for each prompt:
 * { ids, out, text }: the prompt's ids (BOS put before a text), the greedy continuation, and its text.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const VERSION = '3.22.1'
const folder = join(dirname(fileURLToPath(import.meta.url)), '..', '.cache', 'llama-cpp')
const entry = join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')

const install = () => {
  const platform = `@node-llama-cpp/${process.platform === 'darwin' ? 'mac' : process.platform === 'win32' ? 'win' : 'linux'}-${process.arch}${process.platform === 'darwin' && process.arch === 'arm64' ? '-metal' : ''}`
  mkdirSync(folder, { recursive: true })
  const dependencies = { 'node-llama-cpp': VERSION, [platform]: VERSION }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
  // neither scripts, which would build it, nor the packages for GPUs
  const { status } = spawnSync(
    'npm',
    ['install', '--prefix', folder, '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'],
    { stdio: 'inherit', shell: process.platform === 'win32' },
  )
  process.exitCode = status ?? 1
}

const run = async () => {
  if (!existsSync(entry)) throw new Error('node-llama-cpp is not installed: node tools/llama-cpp.mjs install')
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href)
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 1 })
  const answers = []
  for (const { model: modelPath, lora, scale = 1, prompts, tokens = 24 } of JSON.parse(readFileSync(0, 'utf8'))) {
    const model = await llama.loadModel({ modelPath })
    const context = await model.createContext({
      contextSize: 256,
      sequences: prompts.length,
      batchSize: 64,
      threads: 1, // its threads spin while they wait, on cores that others want
      flashAttention: false,
      experimentalKvCacheKeyType: 'F32',
      experimentalKvCacheValueType: 'F32',
      ...(lora && { lora: { adapters: [{ filePath: lora, scale }] } }),
    })
    const rows = []
    for (const prompt of prompts) {
      const sequence = context.getSequence()
      const ids = typeof prompt === 'string' ? model.tokenize(prompt, true) : prompt
      if (typeof prompt === 'string' && model.tokens.shouldPrependBosToken) ids.unshift(model.tokens.bos)
      const out = []
      if (tokens)
        for await (const token of sequence.evaluate(ids, { temperature: 0 })) {
          if (model.isEogToken(token)) break
          out.push(token)
          if (out.length >= tokens) break
        }
      rows.push({ ids: [...ids], out, text: model.detokenize(out) })
      sequence.dispose()
    }
    answers.push(rows)
    await context.dispose()
    await model.dispose()
  }
  process.stdout.write(`\n${JSON.stringify(answers)}\n`)
  await llama.dispose()
}

if (process.argv[2] === 'install') install()
else if (process.argv[2] === 'run') await run()
else console.error('node tools/llama-cpp.mjs install | run')
