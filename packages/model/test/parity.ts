import type { Params, Scalar } from '@weftjs/spec'
import {
  add,
  type Backend,
  backprop,
  mean,
  mul,
  reshape,
  rng,
  square,
  type Tensor,
  tensor,
  transpose,
} from '@weftjs/tensor'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { namesOf } from '../src/architectures/index.ts'
import { attach, nextToken, type Pass } from '../src/index.ts'
import { distance, families, fixture, largest } from './fixture.ts'

/** the name of a parameter in transformers, where it is not the name in the file */
const parameterOf = (hf: string): string =>
  hf
    .replace(/^vit\.encoder\.layer\./, 'vit.layers.')
    .replace(/attention\.attention\.(query|key|value)/, (_, n: string) => `attention.${n[0]}_proj`)
    .replace(/^(vit\.layers\.\d+)\.attention\.output\.dense/, '$1.attention.o_proj')
    .replace(/^(vit\.layers\.\d+)\.intermediate\.dense/, '$1.mlp.fc1')
    .replace(/^(vit\.layers\.\d+)\.output\.dense/, '$1.mlp.fc2')

/** every family against transformers' own figures, on the backend that `start` starts */
export const parity = (start: () => Promise<Backend>): void => {
  const rows: string[] = []
  const report = (name: string, logits: number, loss: number, grads: number, of: number): void => {
    rows.push(
      `${name.padEnd(20)} ${logits.toExponential(1).padStart(8)} ${loss.toExponential(1).padStart(8)} ${
        of ? `${grads.toExponential(1).padStart(8)} (${of} tensors)` : '       -'
      }`,
    )
  }
  let device = ''
  beforeAll(async () => {
    device = (await start()).device
  })
  afterAll(() => {
    process.stdout.write(
      `\nfrom transformers, on ${device}: max |logits| off, loss off, worst gradient off relative to its largest entry\n${rows.join('\n')}\n`,
    )
  })

  describe.each(families)('%s', (name) => {
    it('gives the logits, the loss and the gradients of transformers', async () => {
      const { network, reference, int } = await fixture(name)
      const c = network.config
      const has = (key: string): boolean => reference.has(key)
      const inputs: Params = {
        ...(has('input_ids') && { ids: await int('input_ids') }),
        ...(has('attention_mask') && { mask: await int('attention_mask') }),
        ...(has('token_type_ids') && { types: await int('token_type_ids') }),
        ...(has('pixel_values') && { pixels: tensor(await reference.floats('pixel_values'), [2, 3, 32, 32]) }),
      }
      const [B, T] = reference.entry(has('input_ids') ? 'input_ids' : 'labels').shape as [number, number?]
      const ids = Array.from(has('labels') ? await reference.ints('labels') : await reference.ints('input_ids'))
      // transformers shifts the labels of causal models, and scores the token itself in masked ones
      const targets = c.output === 'causal' ? ids.map((_, i) => ((i + 1) % T! ? ids[i + 1]! : -100)) : ids
      const loss = (pass: Pass): Scalar => {
        if (c.output !== 'pooled') return nextToken(pass, { targets: Int32Array.from(targets), shape: [B, T ?? 1] })
        const real = mul(pass.hidden, reshape(inputs['mask']!, [B, T!, 1]))
        return add(mean(square(pass.head(pass.hidden))), mean(square(real))) as Scalar
      }
      const tuned = attach(network, [], rng(0), { train: '**' })
      const pass = tuned.run(tuned.params, inputs)

      const seen = has('attention_mask') ? Array.from(await reference.ints('attention_mask')) : undefined
      const real = (values: ArrayLike<number>, per: number): number[] =>
        Array.from(values).filter((_, i) => seen?.[Math.floor(i / per)] ?? true)
      const hidden = distance(
        real(pass.hidden.dataSync(), c.width),
        has('last_hidden_state')
          ? real(await reference.floats('last_hidden_state'), c.width)
          : real(pass.hidden.dataSync(), c.width),
      )
      const got = pass.head(pass.hidden)
      const key = c.output === 'pooled' ? 'pooler_output' : 'logits'
      expect(got.shape).toEqual(reference.entry(key).shape)
      const want = await reference.floats(key)
      const logits =
        c.output === 'masked'
          ? distance(real(got.dataSync(), c.vocabulary), real(want, c.vocabulary))
          : distance(got.dataSync(), want)
      expect(hidden).toBeLessThan(1e-4)
      expect(logits).toBeLessThan(1e-4)

      const found = backprop((params) => loss(tuned.run(params, inputs)), tuned.params)
      const off = Math.abs(found.loss.dataSync()[0]! - (await reference.floats('loss'))[0]!)
      expect(off).toBeLessThan(1e-5)

      let worst = 0
      let compared = 0
      for (const { hf, name, layout } of namesOf(c)) {
        const wanted = `grad.${parameterOf(hf)}`
        if (!reference.has(wanted)) continue
        const b = await reference.floats(wanted)
        const g = found.grads[name] as Tensor
        const a = (layout === 'transposed' ? transpose(g) : g).dataSync()
        const relative = distance(a, b) / Math.max(largest(b), 1e-12)
        // a bias on every key shifts all scores of a query alike: its gradient is zero but for rounding
        if (largest(b) < 1e-7) expect(largest(a), name).toBeLessThan(1e-6)
        else {
          expect(relative, name).toBeLessThan(1e-3)
          worst = Math.max(worst, relative)
        }
        compared++
      }
      const gradients = reference.names.filter((n) => n.startsWith('grad.')).length
      expect(compared).toBe(gradients)
      if (gradients) expect(compared).toBe(Object.keys(tuned.params).length)
      report(name, logits, off, worst, compared)
    })

    it('gives the logits of a batch that is padded on the left', async ({ skip }) => {
      const { network, reference, int } = await fixture(name)
      if (!reference.has('padded_mask')) return skip()
      const mask = await int('padded_mask')
      const { logits } = attach(network, [], rng(0)).forward(
        {},
        { ids: await int('padded_input_ids'), positions: await int('padded_positions'), mask },
      )
      const seen = mask.dataSync()
      const V = network.config.vocabulary
      const real = (values: ArrayLike<number>): number[] => Array.from(values).filter((_, i) => seen[Math.floor(i / V)])
      expect(distance(real(logits.dataSync()), real(await reference.floats('padded_logits')))).toBeLessThan(1e-4)
    })
  })
}
