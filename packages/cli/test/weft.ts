import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { initNetwork } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import { cpu, rng } from '@weftjs/tensor'
import { afterAll, vi } from 'vitest'
import { main } from '../src/main.ts'

export const fixtures: string = fileURLToPath(new URL('../../testkit/fixtures/', import.meta.url))
export const llama3: string = join(fixtures, 'models/llama3')

const folders: string[] = []
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true })
})
/** a folder that is gone after the tests of this file */
export const temporary = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'weft-cli-'))
  folders.push(folder)
  return folder
}

export interface Result {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** the command within this process; `onErr` sees each piece of standard error as it is written */
export const weft = async (args: readonly string[], onErr: (text: string) => void = () => {}): Promise<Result> => {
  let [out, err] = ['', '']
  const stdout = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text
    return true
  })
  const stderr = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += text
    onErr(String(text))
    return true
  })
  try {
    return { code: await main(args), out, err }
  } finally {
    stdout.mockRestore()
    stderr.mockRestore()
  }
}

/** the command in a process of its own */
export const spawned = (
  args: readonly string[],
  {
    env = {},
    onErr = () => {},
  }: { env?: Record<string, string>; onErr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void } = {},
): Promise<Result> =>
  new Promise((resolve, reject) => {
    const runner = fileURLToPath(new URL('run.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', '--conditions=@weftjs/source', runner, ...args], {
      env: { ...process.env, ...env },
    })
    let [out, err] = ['', '']
    child.stdout.on('data', (text) => {
      out += text
    })
    child.stderr.on('data', (text) => {
      err += text
      onErr(String(text), (signal) => child.kill(signal))
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code: code ?? -1, out, err }))
  })

/** every file of a folder with its bytes, to see that none has changed */
export const contents = async (folder: string): Promise<Record<string, string>> => {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((f) => f.isFile())
  const found: Record<string, string> = {}
  for (const f of names) {
    const path = join(f.parentPath, f.name)
    found[path.slice(folder.length + 1)] = (await readFile(path)).toString('base64')
  }
  return found
}

/** rows of ids below `vocabulary` for the format `ids` */
export const idRows = (rows: number, length: number, vocabulary: number): string => {
  const u = rng(7).numbers(rows * length)
  return Array.from({ length: rows }, (_, i) =>
    JSON.stringify({
      input_ids: Array.from(u.subarray(i * length, (i + 1) * length), (v) => Math.floor(v * vocabulary)),
    }),
  )
    .map((row) => `${row}\n`)
    .join('')
}

/** a folder with ids.jsonl and run.yaml that trains LoRA on the llama3 fixture; `more` is put over the settings */
export const project = async (more: Record<string, unknown> = {}): Promise<string> => {
  const folder = await temporary()
  await writeFile(join(folder, 'ids.jsonl'), idRows(12, 12, 96))
  await writeFile(
    join(folder, 'run.yaml'),
    JSON.stringify({
      model: llama3,
      adapters: [{ method: 'lora', at: 'blocks.*.attn.{q,v}', rank: 4, alpha: 8 }],
      data: { path: 'ids.jsonl', format: 'ids' },
      train: { steps: 6, batch: 2, length: 12, lr: 1e-3 },
      out: join(folder, 'out'),
      ...more,
    }),
  )
  return folder
}

/** one token a byte, under the letters that byte-level tokenizers write for bytes, then three special ones */
const BYTES = ((): string[] => {
  const plain = (b: number): boolean => (b > 32 && b < 127) || (b > 160 && b < 256 && b !== 173)
  let next = 256
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(plain(b) ? b : next++))
})()
const SPECIAL = ['<s>', '</s>', '<pad>'] as const
/** of `speaking` */
export const vocabulary: number = BYTES.length + SPECIAL.length

const tokenizerFiles = {
  'tokenizer.json': {
    version: '1.0',
    added_tokens: SPECIAL.map((content, i) => ({
      id: BYTES.length + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries([...BYTES, ...SPECIAL].map((token, id) => [token, id])),
      merges: [],
    },
  },
  'tokenizer_config.json': {
    bos_token: '<s>',
    eos_token: '</s>',
    pad_token: '<pad>',
    add_bos_token: true,
    chat_template:
      "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}",
    tokenizer_class: 'PreTrainedTokenizerFast',
  },
}

export const tinyConfig = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: vocabulary,
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  intermediate_size: 24,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
}

/** a tiny random Llama with a tokenizer of bytes, for text */
export const speaking = async ({ length = 64 }: { length?: number } = {}): Promise<string> => {
  const folder = await temporary()
  await cpu()
  await save(initNetwork({ ...tinyConfig, max_position_embeddings: length }, rng(1)), folder)
  for (const [file, content] of Object.entries(tokenizerFiles))
    await writeFile(join(folder, file), JSON.stringify(content))
  return folder
}

export const losses = async (out: string): Promise<string[]> =>
  (await readFile(join(out, 'log.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => /"loss":([^,}]+)/.exec(line)![1]!)
