import { cpu } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { distance, intsOf, open, peftFolder, peftNames, safetensors } from './fixture.ts'

await cpu()

describe.each(peftNames('weft'))('%s, trained and written here, read by PEFT', (name) => {
  it('means the same there: logits equal', async () => {
    const { tuned, params } = await open(peftFolder(name))
    const reference = await safetensors(`peft/${name}/reference.safetensors`)
    const task = reference.has('task') && { task: await intsOf(reference, 'task') }
    const { logits } = tuned.forward(params, { ids: await intsOf(reference, 'input_ids'), ...task })
    const gap = distance(await logits.data(), await reference.floats('logits'))
    if (process.env['WEFT_MARGINS']) console.log(name, gap.toExponential(2))
    expect(gap).toBeLessThan(1e-4)
  })
})
