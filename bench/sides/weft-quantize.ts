/** Every matrix of a checkpoint's blocks, read, packed and written to a file, one after another. */
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { codecOf } from '@weftjs/cli/codecs'
import { dispose, tensor2d, tidy, wasm } from '@weftjs/tensor'
import { openCheckpoint, type TensorSource, writeSafetensors } from '@weftjs/tensor/checkpoint'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { copyBandwidth } from './limits.ts'
import { serve } from './serve.ts'

await serve(async ({ path, codec: name }: { path: string; codec: string }) => {
  const { device } = await wasm()
  const codec = codecOf(name, 'codec')
  const out = join(tmpdir(), `weft-bench-${process.pid}.safetensors`)
  const unit = async (): Promise<Record<string, number>> => {
    const checkpoint = await openCheckpoint(nodeFolder(path))
    const names = checkpoint.names.filter((n) => /layers\..*_proj\.weight$/.test(n))
    let bytes = 0
    const begun = performance.now()
    // sizes come from the layout, so that the file is written as the matrices are packed
    const sources = names.flatMap((name): TensorSource[] => {
      const { shape, bytes: size } = checkpoint.entry(name)
      bytes += size
      const [out, input] = shape as [number, number]
      let parts: ReturnType<typeof codec.encode> | undefined
      let left = 0
      const made = async (): Promise<NonNullable<typeof parts>> => {
        if (parts) return parts
        const values = await checkpoint.floats(name)
        parts = tidy(() => codec.encode(tensor2d(values, [out, input])))
        left = Object.keys(parts).length
        return parts
      }
      return Object.entries(codec.layout!([out, input])).map(([part, { dtype, shape: partShape }]) => ({
        name: `${name}.${part}`,
        dtype: dtype === 'int32' ? 'I32' : 'F32',
        shape: partShape as number[],
        data: async () => {
          const all = await made()
          const found = await all[part]!.data()
          if (--left === 0) {
            dispose(Object.values(all))
            parts = undefined
          }
          return new Uint8Array(found.buffer, found.byteOffset, found.byteLength)
        },
      }))
    })
    await writeSafetensors(await fileSink(out), sources)
    const ms = performance.now() - begun
    await checkpoint.close()
    rmSync(out)
    return { ms, gbps: bytes / ms / 1e6, copy: copyBandwidth() }
  }
  return { facts: { device }, unit }
})
