/**
 * GPU buffers for tensors and uniforms, in the place of tfjs's pool. A free buffer of the right size with the lowest
 * number is given, so that a step which repeats meets the same buffers again, and bind groups made for them still hold.
 */
export interface Pool {
  /** `written`: the CPU writes it, which happens before all commands that are recorded and not yet submitted */
  take(size: number, usage: number, written: boolean): GPUBuffer
  /** as tfjs calls it */
  acquireBuffer(size: number, usage: number, mapped?: boolean, reuse?: boolean): GPUBuffer
  releaseBuffer(buffer: GPUBuffer, reuse?: boolean): void
  /** keeps a buffer from being free, whoever releases it, until `unhold` */
  hold(buffer: GPUBuffer): void
  unhold(buffer: GPUBuffer): void
  /** commands so far are submitted: what was released before may be written from the CPU */
  submitted(): void
  getNumUsedBuffers(): number
  getNumFreeBuffers(): number
  /** gives all buffers back to the device, or only those that are free */
  dispose(freeOnly?: boolean): void
  numBytesUsed: number
  numBytesAllocated: number
}

const UNIFORM = 64
/** submissions after which a free buffer is given back to the device, and how often that is looked at */
const IDLE = 2048
const SWEEP = 512

interface Entry {
  readonly id: number
  readonly key: number
  /** submission during which it was released */
  at: number
}

export const pool = (device: GPUDevice): Pool => {
  const free = new Map<number, GPUBuffer[]>() // by size and usage; the lowest number last
  const entries = new Map<GPUBuffer, Entry>()
  const idle = new Set<GPUBuffer>()
  const held = new Map<GPUBuffer, { count: number; released: boolean }>()
  let made = 0
  let submissions = 0
  const self: Pool = {
    numBytesUsed: 0,
    numBytesAllocated: 0,
    take: (size: number, usage: number, written: boolean): GPUBuffer => {
      const key = size * 1024 + usage
      const list = free.get(key)
      let i = list ? list.length - 1 : -1
      if (written) while (i >= 0 && entries.get(list![i]!)!.at >= submissions) i--
      self.numBytesUsed += size
      if (i >= 0) {
        const [found] = list!.splice(i, 1) as [GPUBuffer]
        idle.delete(found)
        return found
      }
      const buffer = device.createBuffer({ size, usage })
      entries.set(buffer, { id: made++, key, at: -1 })
      self.numBytesAllocated += size
      return buffer
    },
    acquireBuffer: (size: number, usage: number, mapped = false, reuse = true): GPUBuffer => {
      if (reuse && !mapped) return self.take(size, usage, (usage & UNIFORM) !== 0)
      const buffer = device.createBuffer({ size, usage, mappedAtCreation: mapped })
      entries.set(buffer, { id: made++, key: size * 1024 + usage, at: -1 })
      self.numBytesUsed += size
      self.numBytesAllocated += size
      return buffer
    },
    releaseBuffer: (buffer: GPUBuffer, reuse = true): void => {
      const entry = entries.get(buffer)
      if (!entry || idle.has(buffer)) return
      const keeper = held.get(buffer)
      if (keeper) {
        keeper.released = true
        return
      }
      self.numBytesUsed -= buffer.size
      if (!reuse) {
        drop(buffer)
        return
      }
      entry.at = submissions
      const list = free.get(entry.key) ?? []
      free.set(entry.key, list)
      let i = list.length
      while (i > 0 && entries.get(list[i - 1]!)!.id < entry.id) i--
      list.splice(i, 0, buffer)
      idle.add(buffer)
    },
    hold: (buffer: GPUBuffer): void => {
      const keeper = held.get(buffer) ?? { count: 0, released: false }
      held.set(buffer, keeper)
      keeper.count++
    },
    unhold: (buffer: GPUBuffer): void => {
      const keeper = held.get(buffer)
      if (!keeper || --keeper.count) return
      held.delete(buffer)
      if (keeper.released) self.releaseBuffer(buffer)
    },
    submitted: (): void => {
      if (++submissions % SWEEP) return
      for (const buffer of idle) {
        const { key, at } = entries.get(buffer)!
        if (submissions - at < IDLE) continue
        const list = free.get(key)!
        list.splice(list.indexOf(buffer), 1)
        drop(buffer)
      }
    },
    getNumUsedBuffers: () => entries.size - idle.size,
    getNumFreeBuffers: () => idle.size,
    dispose: (freeOnly = false): void => {
      for (const buffer of freeOnly ? idle : entries.keys()) buffer.destroy()
      for (const all of [free, entries, idle, held]) all.clear()
      self.numBytesUsed = 0
      self.numBytesAllocated = 0
    },
  }
  const drop = (buffer: GPUBuffer): void => {
    entries.delete(buffer)
    idle.delete(buffer)
    self.numBytesAllocated -= buffer.size
    buffer.destroy()
  }
  return self
}
