/** Every matrix of a checkpoint's blocks, read, packed and written to a file, one after another: what `weft quantize` does. */
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { codecOf } from '@weftjs/cli/codecs'
import { streaming } from '@weftjs/quant'
import { type Tensor2D, wasm } from '@weftjs/tensor'
import { openCheckpoint, type TensorSource, writeSafetensors } from '@weftjs/tensor/checkpoint'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { readTensor } from '@weftjs/tensor/read-tensor'
import { copyBandwidth } from './limits.ts'
import { serve } from './serve.ts'

interface Options {
  readonly path: string
  readonly codec: string
  /** beside what the machine copies: 256 MB of this process */
  readonly limit?: boolean
}

await serve(async ({ path, codec: name, limit = false }: Options) => {
  const { device } = await wasm()
  const codec = codecOf(name, 'codec')
  const out = join(tmpdir(), `weft-bench-${process.pid}.safetensors`)
  const unit = async (): Promise<Record<string, number>> => {
    const begun = performance.now()
    const checkpoint = await openCheckpoint(nodeFolder(path))
    const names = checkpoint.names.filter((n) => /layers\..*_proj\.weight$/.test(n))
    const how = streaming(codec, { at: () => true })
    const sources: TensorSource[] = []
    let bytes = 0
    for (const name of names) {
      const { shape, bytes: size } = checkpoint.entry(name)
      bytes += size
      const weight = await how.weight({
        ...{ name, hf: name, file: checkpoint.name, shape: shape as [number, number] },
        read: () => readTensor(checkpoint, name, shape) as Promise<Tensor2D>,
      })
      for (const [part, t] of Object.entries(weight!.parts))
        sources.push({
          name: `${name}.${part}`,
          dtype: t.dtype === 'int32' ? 'I32' : 'F32',
          shape: t.shape,
          data: async () => {
            const { buffer, byteOffset, byteLength } = await t.data()
            return new Uint8Array(buffer, byteOffset, byteLength)
          },
        })
    }
    await writeSafetensors(await fileSink(out), sources)
    const ms = performance.now() - begun
    how.dispose()
    await checkpoint.close()
    rmSync(out)
    return { ms, gbps: bytes / ms / 1e6, ...(limit && { copy: copyBandwidth() }) }
  }
  return { facts: { device }, unit }
})
