import table from '../../../claims/results/quant.json'
import type { QuantRow } from '../../../claims/table.ts'
import { type Column, figures } from './figures.ts'
import { byId, element } from './form.ts'
import { bytes, count } from './show.ts'

const rows = table.rows as unknown as readonly QuantRow[]

const COLUMNS: Readonly<Record<string, Column<QuantRow>>> = {
  bits: {
    title: 'Bits',
    help: 'of each weight of the blocks, scales and code books included',
    of: (r) => r.run?.bits ?? null,
    show: (r) => r.run?.bits.toFixed(3) ?? '',
  },
  perplexity: {
    title: 'Perplexity',
    help: 'exp of the loss a token on held-out text; less is better',
    of: (r) => r.run?.perplexity.mean ?? null,
    show: (r) => r.run?.perplexity.mean.toFixed(2) ?? '',
    log: true,
  },
  kl: {
    title: 'KL',
    help: 'to the full model, in nats a token: how far what is predicted has moved; less is better',
    of: (r) => r.run?.kl.mean ?? null,
    show: (r) => (r.run ? `${r.run.kl.mean.toFixed(4)} ± ${r.run.kl.sd.toFixed(4)}` : ''),
    log: true,
    tick: (v) => v.toExponential(0),
  },
  error: {
    title: 'Error',
    help: '‖Q − W‖²/‖W‖² over all matrices; none where scales have moved between layers',
    of: (r) => r.run?.error ?? null,
    show: (r) => r.run?.error?.toExponential(1) ?? '',
    log: true,
    tick: (v) => v.toExponential(0),
  },
  bytes: {
    title: 'Size',
    help: 'bytes of the packed matrices',
    of: (r) => r.run?.bytes ?? null,
    show: (r) => (r.run ? bytes(r.run.bytes) : ''),
    tick: bytes,
  },
  seconds: {
    title: 'To pack, s',
    help: 'seconds to pack the model, with the pass over texts where the format needs one',
    of: (r) => r.run?.seconds ?? null,
    show: (r) => r.run?.seconds?.toFixed(2) ?? '',
    log: true,
  },
  milliseconds: {
    title: 'A token, ms',
    help: 'milliseconds of a token that is generated',
    of: (r) => r.run?.milliseconds ?? null,
    show: (r) => r.run?.milliseconds?.toFixed(1) ?? '',
  },
  peak: {
    title: 'Peak',
    help: 'most bytes of tensors while packing, beside the dense model',
    of: (r) => r.run?.peak ?? null,
    show: (r) => (r.run ? bytes(r.run.peak) : ''),
    log: true,
    tick: bytes,
  },
  holds: {
    title: 'Shows here',
    help: 'whether the sentence beside it holds at this scale, for every seed',
    of: (r) => (r.holds === null ? null : r.holds ? 'holds' : 'does not show'),
    show: (r) => (r.holds === null ? '' : r.holds ? 'holds' : 'does not show'),
    words: true,
  },
  claim: {
    title: 'What is said of it',
    help: 'and in brackets what was measured for it: above 0 where it holds',
    of: (r) => r.claim,
    show: (r) => (r.claim ? `${r.claim} (${r.metric}: ${r.mean!.toFixed(4)} ± ${r.sd!.toFixed(4)})` : (r.error ?? '')),
    words: true,
  },
}

byId('about').textContent =
  `${table.machine}, ${table.date}. Three seeds draw the held-out text and what calibration sees.`

const show = figures({
  ...{ columns: COLUMNS, title: 'Format', own: 'nf4', sorted: 'bits', across: 'bits', up: 'perplexity' },
  nameOf: (r: QuantRow) => r.method,
})
const menu = byId<HTMLSelectElement>('model')
const models: Readonly<Record<string, { weights: number }>> = table.models
menu.append(
  ...Object.entries(models).map(([name, { weights }]) =>
    element('option', { value: name }, `${name}, ${count(weights)} weights in its blocks`),
  ),
)
const draw = (): void => show(rows.filter((r) => r.model === menu.value))
menu.addEventListener('change', draw)
draw()
