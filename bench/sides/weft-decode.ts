/** One matrix of few bits decoded, and multiplied with one row, as generating does. */
import { codecOf } from '@weftjs/cli/codecs'
import { mul, type Tensor2D, tensor, tidy, wasm } from '@weftjs/tensor'
import { packed } from '@weftjs/weight'
import { copyBandwidth } from './limits.ts'
import { callsFor, perCall } from './repeat.ts'
import { serve } from './serve.ts'
import { valuesOf } from './shape.ts'

const [OUT, IN] = [4096, 4096] as const

await serve(async ({ codec: name }: { codec: string }) => {
  const { device } = await wasm()
  const w = tensor(valuesOf('matrix', [OUT, IN]), [OUT, IN]) as Tensor2D
  const weight = tidy(() => packed(codecOf(name, 'codec'), w) as never) as unknown as ReturnType<typeof packed>
  const x = mul(tensor(valuesOf('row', [1, IN]), [1, IN]), 1)
  const decode = () => tidy(() => weight.dense())
  const product = () => tidy(() => weight.apply(x))
  const calls = [await callsFor(decode, false), await callsFor(product, false)] as const
  const bytes = 4 * OUT * IN
  const unit = async (): Promise<Record<string, number>> => {
    const ms = [await perCall(decode, false, calls[0]), await perCall(product, false, calls[1])] as const
    return { ms: ms[0] + ms[1], decode: bytes / ms[0] / 1e6, product: bytes / ms[1] / 1e6, copy: copyBandwidth() }
  }
  return { facts: { device }, unit }
})
