import type { Gpu } from './program.ts'
import { each, flush, tap } from './tap.ts'

/** told of a dispatch as it is recorded; what it returns is told when it ran, in ms of the device's own clock */
export type Note = (pipeline: GPUComputePipeline, group: GPUBindGroup) => (begin: number, end: number) => void

/** dispatches whose times are kept in one set of queries */
const SET = 1024

interface Batch {
  readonly set: GPUQuerySet
  readonly to: GPUBuffer
  readonly notes: ReturnType<Note>[]
}

/** Has every dispatch to come timed by the device, in a pass of its own; `stop` tells all times and takes the clock off. */
export const clock = (gpu: Gpu, note: Note): { stop(): Promise<void> } => {
  const { device } = gpu
  const batches: Batch[] = []
  let batch: Batch | undefined
  const open = (): Batch => ({
    set: device.createQuerySet({ type: 'timestamp', count: 2 * SET }),
    to: device.createBuffer({ size: 16 * SET, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
    notes: [],
  })
  const resolved = device.createBuffer({
    size: 16 * SET,
    usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
  })
  const close = (encoder: GPUCommandEncoder, { set, to, notes }: Batch): void => {
    encoder.resolveQuerySet(set, 0, 2 * notes.length, resolved, 0)
    encoder.copyBufferToBuffer(resolved, 0, to, 0, 16 * notes.length)
    batch = undefined
  }
  const off = tap(gpu, (begin, encoder) =>
    each((pipeline, group, groups) => {
      if (!batch) {
        batch = open()
        batches.push(batch)
      }
      const at = 2 * batch.notes.length
      batch.notes.push(note(pipeline, group))
      const pass = begin({
        timestampWrites: { querySet: batch.set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 },
      })
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, group)
      pass.dispatchWorkgroups(...groups)
      pass.end()
      if (batch.notes.length === SET) close(encoder, batch)
    }),
  )
  return {
    stop: async () => {
      flush(gpu)
      if (batch) {
        gpu.ensureCommandEncoderReady()
        close(gpu.commandEncoder!, batch)
      }
      off()
      for (const { set, to, notes } of batches) {
        await to.mapAsync(GPUMapMode.READ)
        const times = new BigUint64Array(to.getMappedRange())
        notes.forEach((tell, i) => {
          tell(Number(times[2 * i]!) / 1e6, Number(times[2 * i + 1]!) / 1e6)
        })
        to.destroy()
        set.destroy()
      }
      resolved.destroy()
    },
  }
}
