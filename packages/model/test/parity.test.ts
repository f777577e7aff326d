import { cpu, rng, tensor } from '@weftjs/tensor'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { openSafetensors } from '@weftjs/tensor/checkpoint/index'
import { expect, it } from 'vitest'
import { attach, loadNetwork } from '../src/index.ts'

await cpu()
const fixtures = new URL('../../testkit/fixtures/models/', import.meta.url).pathname
for (const name of ['llama', 'llama3'])
  it(`${name}: logits equal transformers'`, async () => {
    const net = await loadNetwork(nodeFolder(`${fixtures}${name}`))
    const ref = await openSafetensors(await fromFile(`${fixtures}${name}/reference.safetensors`))
    const tuned = attach(net, [], rng(0))
    const ids = tensor(await ref.ints('input_ids'), ref.entry('input_ids').shape as number[], 'int32')
    const { logits } = tuned.forward({}, { ids })
    const want = await ref.floats('logits')
    const got = logits.dataSync()
    let worst = 0
    for (let i = 0; i < want.length; i++) worst = Math.max(worst, Math.abs(want[i]! - got[i]!))
    expect(worst).toBeLessThan(1e-4)
  })
