import { attach, generate } from '@weftjs/model'
import { dispose, rng } from '@weftjs/tensor'
import type { GenerateRequest } from '../protocol.ts'
import type { Context } from './main.ts'
import { loadedOf, type Session, snapshot } from './session.ts'

/** The model without and with its adapter, a token of each in turn, from the same prompt and seed. */
export const generateBoth = async (
  session: Session,
  { prompt, temperature, seed, tokens }: GenerateRequest,
  { tell, signal }: Context<'generate'>,
): Promise<undefined> => {
  const { network, tokenizer } = loadedOf(session)
  const { tuning } = session
  const params = tuning && snapshot(tuning)
  const options = { tokenizer, maxTokens: tokens, temperature, seed, signal, overflow: 'truncate' } as const
  const rows = [
    { row: 'before' as const, answer: generate(attach(network, [], rng(0)), [prompt], options) },
    ...(tuning && params
      ? [{ row: 'after' as const, answer: generate(tuning.tuned, [prompt], { ...options, params }) }]
      : []),
  ]
  try {
    let live = rows
    while (live.length) {
      const going: typeof rows = []
      for (const r of live) {
        const { done, value } = await r.answer.next()
        if (done) continue
        tell({ row: r.row, text: value.text })
        going.push(r)
      }
      live = going
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    for (const { answer } of rows) await answer.return()
    if (params) dispose(Object.values(params))
  }
}
