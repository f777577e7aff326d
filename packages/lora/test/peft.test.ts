import { cpu } from '@weftjs/tensor'
import { openCheckpoint } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import { distance, intsOf, open, peftFolder, peftNames, safetensors, saved } from './fixture.ts'

await cpu()

describe.each(peftNames('peft'))('%s, written by PEFT', (name) => {
  it("gives PEFT's logits", async () => {
    const { tuned, params } = await open(peftFolder(name))
    const reference = await safetensors(`peft/${name}/reference.safetensors`)
    const { logits } = tuned.forward(params, { ids: await intsOf(reference, 'input_ids') })
    expect(distance(await logits.data(), await reference.floats('logits'))).toBeLessThan(1e-4)
  })

  it.each(['with', 'without'])(
    "written again, %s PEFT's config, has the same tensors and the same meaning",
    async (how) => {
      const { tuned, params, config } = await open(peftFolder(name))
      const again = await saved(tuned, params, how === 'with' ? { config } : { base: config.base_model_name_or_path! })
      const [ours, theirs] = [
        await openCheckpoint(again, { stem: 'adapter_model' }),
        await openCheckpoint(peftFolder(name), { stem: 'adapter_model' }),
      ]
      expect([...ours.names].sort()).toEqual([...theirs.names].sort())
      for (const key of theirs.names) {
        expect(ours.entry(key)).toEqual(theirs.entry(key))
        expect(distance(await ours.floats(key), await theirs.floats(key)), key).toBe(0)
      }
      await theirs.close()
      const second = await open(again)
      expect(Object.keys(second.params).sort()).toEqual(Object.keys(params).sort())
      const reference = await safetensors(`peft/${name}/reference.safetensors`)
      const { logits } = second.tuned.forward(second.params, { ids: await intsOf(reference, 'input_ids') })
      expect(distance(await logits.data(), await reference.floats('logits'))).toBeLessThan(1e-4)
    },
  )
})
