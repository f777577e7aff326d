import { readFile } from 'node:fs/promises'
import { score as scoreIds } from '@weftjs/model'
import { saveSafetensors } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import { idsOf } from '../ids.ts'
import { openFolder, openNetwork, openTokenizer, tunedFrom } from '../models.ts'
import { print, printJson } from '../terminal.ts'

/** @throws Failure for a file that is no text, or has none */
const textOf = async (path: string): Promise<string> => {
  const bytes = await readFile(path).catch((error) => {
    throw Object.assign(error, { path }) // of a folder it does not say which
  })
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new Failure(`${path}: not text in UTF-8; save it as that, or name another file`)
  }
  if (text === '') throw new Failure(`${path}: is empty: nothing to score; name a file with text`)
  return text
}

export const score = async ({ args: [model], text, flag, all }: Call): Promise<number> => {
  const given = ['text', 'ids', 'file'].filter((o) => text(o) !== undefined)
  if (given.length !== 1)
    throw usage(
      `score needs one of --text, --ids and --file, found ${given.length ? given.map((o) => `--${o}`).join(' and ') : 'none'}`,
    )
  if (text('text') === '') throw usage('--text is empty: nothing to score')
  const list = text('ids') === undefined ? undefined : idsOf(text('ids')!)
  await startBackend(text('backend'))
  const folder = await openFolder(model!)
  const network = await openNetwork(folder)
  const tokenizer = list ? undefined : await openTokenizer(folder, network)
  const ids = list ?? tokenizer!.encode(given[0] === 'text' ? text('text')! : await textOf(text('file')!))
  const { tuned, params } = await tunedFrom(network, all('adapter'))
  const wanted = text('logits') !== undefined
  const length = network.config.maxLength
  const whole = { tokens: [] as { id: number; logprob: number | null }[], logits: [] as Float32Array[] }
  for (let from = 0; from < Math.max(1, ids.length); from += length) {
    const part = await scoreIds(tuned, params, ids.slice(from, from + length), { logits: wanted })
    whole.tokens.push(...part.tokens)
    if (part.logits) whole.logits.push(part.logits.data)
  }
  const known = whole.tokens.flatMap((t) => (t.logprob === null ? [] : [t.logprob]))
  const loss = known.length ? -known.reduce((a, b) => a + b, 0) / known.length : null
  if (wanted)
    await saveSafetensors(text('logits')!, [
      {
        name: 'logits',
        dtype: 'F32',
        shape: [ids.length, network.config.vocabulary],
        data: () => whole.logits.map((l) => new Uint8Array(l.buffer, l.byteOffset, l.byteLength)),
      },
    ])
  if (flag('json')) printJson({ loss, tokens: whole.tokens })
  else {
    print(
      loss === null
        ? 'one token: nothing to predict'
        : `loss ${loss.toFixed(4)} nats, perplexity ${Math.exp(loss).toFixed(2)}, ${known.length} prediction${known.length === 1 ? '' : 's'}`,
    )
    if (tokenizer && whole.tokens.length <= 60)
      for (const { id, logprob } of whole.tokens)
        print(
          `${logprob === null ? '       ' : logprob.toFixed(3).padStart(7)}  ${JSON.stringify(tokenizer.decode([id]))}`,
        )
  }
  return 0
}
