import type { Tensor } from '@weftjs/spec'
import { cpu } from '@weftjs/tensor'
import { type Checkpoint, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { describe, expect, it } from 'vitest'
import { distance, intsOf, open, peftFolder, peftNames, safetensors, saved } from './fixture.ts'

await cpu()

/** what went into the model: ids, and the tasks of the rows where the method has them */
const inputsOf = async (reference: Checkpoint): Promise<Record<string, Tensor>> => ({
  ids: await intsOf(reference, 'input_ids'),
  ...(reference.has('task') && { task: await intsOf(reference, 'task') }),
})
/** the numbers of a tensor, and its shape; whole ones may stand in more bytes than PEFT's */
const numbers = async (file: Checkpoint, key: string): Promise<[object, ArrayLike<number>]> => {
  const { shape, dtype } = file.entry(key)
  if (/^[IU]/.test(dtype)) return [{ shape }, await file.ints(key)]
  return [file.entry(key), await file.floats(key)]
}

describe.each(peftNames('peft'))('%s, written by PEFT', (name) => {
  it("gives PEFT's logits", async () => {
    const { tuned, params } = await open(peftFolder(name))
    const reference = await safetensors(`peft/${name}/reference.safetensors`)
    const { logits } = tuned.forward(params, await inputsOf(reference))
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
        const [[entry, a], [want, b]] = [await numbers(ours, key), await numbers(theirs, key)]
        expect(entry).toEqual(want)
        expect(distance(a, b), key).toBe(0)
      }
      await theirs.close()
      const second = await open(again)
      expect(Object.keys(second.params).sort()).toEqual(Object.keys(params).sort())
      const reference = await safetensors(`peft/${name}/reference.safetensors`)
      const { logits } = second.tuned.forward(second.params, await inputsOf(reference))
      expect(distance(await logits.data(), await reference.floats('logits'))).toBeLessThan(1e-4)
    },
  )
})
