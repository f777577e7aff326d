import table from '../../../claims/results/lora.json'
import type { Row, Spread } from '../../../claims/table.ts'
import { type Column, figures } from './figures.ts'
import { byId } from './form.ts'
import { bytes, count } from './show.ts'

const rows = table.rows as unknown as readonly Row[]
const spread = ({ mean, sd }: Spread): string => `${mean.toFixed(3)} ± ${sd.toFixed(3)}`
const lora = rows.find((r) => r.method === 'lora')?.run

const COLUMNS: Readonly<Record<string, Column<Row>>> = {
  loss: {
    title: 'Loss',
    help: 'on text of the voice that was kept apart, in nats a token, ± one deviation over three seeds; less is better',
    of: (r) => r.run?.loss.mean ?? null,
    show: (r) => (r.run ? spread(r.run.loss) : ''),
  },
  forgetting: {
    title: 'Forgetting',
    help: 'how much the loss has risen on text that mini wrote before it was taught, in nats a token; less is better',
    of: (r) => r.run?.forgetting.mean ?? null,
    show: (r) => (r.run ? spread(r.run.forgetting) : ''),
  },
  trainable: {
    title: 'Trained numbers',
    help: 'how many numbers training changes; where a method can have as many as LoRA of rank 8, it has',
    of: (r) => r.run?.trainable ?? null,
    show: (r) => (r.run ? count(r.run.trainable) : ''),
    log: true,
  },
  bytes: {
    title: 'On disk',
    help: 'bytes of what is saved',
    of: (r) => r.run?.bytes ?? null,
    show: (r) => (r.run ? bytes(r.run.bytes) : ''),
    log: true,
    tick: bytes,
  },
  time: {
    title: 'Time, ×\u00a0LoRA',
    help: 'time of a training step over that of LoRA, in a run that does more than measure',
    of: (r) => (r.run && lora ? r.run.milliseconds / lora.milliseconds : null),
    show: (r) => (r.run && lora ? (r.run.milliseconds / lora.milliseconds).toFixed(2) : ''),
  },
  memory: {
    title: 'Memory, ×\u00a0LoRA',
    help: 'most bytes of tensors at once over those of LoRA',
    of: (r) => (r.run && lora ? r.run.peak / lora.peak : null),
    show: (r) => (r.run && lora ? (r.run.peak / lora.peak).toFixed(2) : ''),
  },
  rate: {
    title: 'Rate',
    help: 'the learning rate that was best on the validation split',
    of: (r) => r.run?.rate ?? null,
    show: (r) => String(r.run?.rate ?? ''),
    log: true,
  },
  holds: {
    title: 'Shows here',
    help: "whether the paper's sentence holds at this scale, for every seed",
    of: (r) => (r.holds === null ? null : r.holds ? 'holds' : 'does not show'),
    show: (r) => (r.holds === null ? '' : r.holds ? 'holds' : 'does not show'),
    words: true,
  },
  claim: {
    title: "The paper's claim",
    help: 'its sentence, and in brackets what was measured for it: above 0 where it holds',
    of: (r) => r.claim,
    show: (r) =>
      r.claim
        ? `${r.claim} (${r.metric}: ${r.mean!.toFixed(3)} ± ${r.sd!.toFixed(3)})${r.note ? `. ${r.note}` : ''}`
        : (r.error ?? ''),
    words: true,
  },
}

byId('about').textContent =
  `${table.steps} steps, rates ${table.grid.join(', ')} and beyond while the last was the best; ${table.machine}, ${table.date}. A dash is a method that has no place in this comparison: it needs a mixture of experts, labels, or documents.`

figures({
  ...{ columns: COLUMNS, title: 'Method', own: 'lora', sorted: 'loss', across: 'trainable', up: 'loss' },
  nameOf: (r: Row) => r.method,
  paperOf: (r: Row) => r.paper,
})(rows)
