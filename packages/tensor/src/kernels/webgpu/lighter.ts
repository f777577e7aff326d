import { pool } from './buffers.ts'
import type { Gpu } from './program.ts'

/** entries of the younger half of a cache; an entry that is not asked for while as many others are made is forgotten */
const HALF = 4096

/** what was asked for lately, by key; `forget` hears of what is dropped */
const recent = <T>(make: (key: string) => T, forget: (value: T) => void = () => {}): ((key: string) => T) => {
  let young = new Map<string, T>()
  let old = new Map<string, T>()
  return (key) => {
    const found = young.get(key)
    if (found !== undefined) return found
    const value = old.get(key) ?? make(key)
    old.delete(key)
    young.set(key, value)
    if (young.size >= HALF) {
      for (const dropped of old.values()) forget(dropped)
      old = young
      young = new Map()
    }
    return value
  }
}

/** the buffers of a bind group, in the order of its bindings */
export const bound: WeakMap<GPUBindGroup, readonly GPUBuffer[]> = new WeakMap()

type Fields = Parameters<Gpu['makeUniforms']>[0]
/** equal for equal numbers in equal places */
export const keyOf = (fields: Fields): string => {
  let key = ''
  for (const { type, data } of fields) key += `${type === 'float32' ? 'f' : 'i'}${data.join()}`
  return key
}

/** each object's number, for keys */
const numbers = new WeakMap<object, number>()
let last = 0
const numberOf = (x: object): number => {
  const found = numbers.get(x)
  if (found !== undefined) return found
  numbers.set(x, ++last)
  return last
}

/** one layout object per pipeline that tfjs compiled by itself: it asks for it anew for each dispatch */
const oneLayout = (device: GPUDevice): void => {
  const create = device.createComputePipeline.bind(device)
  device.createComputePipeline = (descriptor) => {
    const made = create(descriptor)
    const ask = made.getBindGroupLayout.bind(made)
    let layout: GPUBindGroupLayout | undefined
    made.getBindGroupLayout = (index) => {
      if (index) return ask(index)
      layout ??= ask(0)
      return layout
    }
    return made
  }
}

/**
 * Makes a dispatch of tfjs's backend cost less, ours and its own alike: uniforms with equal numbers are one buffer,
 * bind groups with equal buffers one group, a tensor's buffer is free as soon as the tensor is (commands run in order),
 * and uploads are written by the queue without a buffer of their own or an end of the pass.
 */
export const makeLighter = (gpu: Gpu): void => {
  const { device } = gpu
  gpu.bufferManager = pool(device)

  const submit = gpu.submitQueue.bind(gpu)
  // tensors of textures wait for the submission as before; for the others nothing is owned by the queue
  const owned = { has: (id: object) => gpu.tensorMap.get(id)?.resource instanceof GPUTexture, add: () => owned }
  const disown = (): void => {
    gpu.commandQueueOwnedIds = owned as unknown as WeakSet<object>
  }
  disown()
  gpu.submitQueue = () => {
    submit()
    disown()
    gpu.bufferManager.submitted()
  }

  const upload = gpu.uploadToGPU.bind(gpu)
  const most = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize)
  gpu.uploadToGPU = (dataId) => {
    const data = gpu.tensorMap.get(dataId)
    if (data.resource != null) return
    const bytes = data.shape.reduce((n, d) => n * d, 4)
    // the device would give a buffer of zeros and say so later
    if (bytes > most)
      throw new Error(
        `webgpu: a tensor [${data.shape}] takes ${(bytes / 1e9).toFixed(2)} GB, and this GPU binds at most ${(most / 1e9).toFixed(2)} GB at a time; make it in pieces (fewer rows, a shorter or smaller batch), or take the wasm backend`,
      )
    if (!data.values) return upload(dataId)
    const Kind = data.dtype === 'float32' ? Float32Array : Int32Array
    const values = data.values instanceof Kind ? data.values : new Kind(data.values)
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
    const buffer = gpu.bufferManager.take(values.byteLength, usage, true)
    if (values.length) device.queue.writeBuffer(buffer, 0, values as Float32Array<ArrayBuffer>)
    data.resource = buffer
    data.values = null
  }

  const makeUniforms = gpu.makeUniforms.bind(gpu)
  let asked: Fields = []
  const uniforms = recent(
    () => {
      const made = makeUniforms(asked)
      gpu.uniformPendingDisposal.pop()
      return made
    },
    ({ buffer }) => {
      gpu.uniformPendingDisposal.push(buffer)
    },
  )
  gpu.makeUniforms = (fields) => {
    asked = fields
    return uniforms(keyOf(fields))
  }

  oneLayout(device)
  const createBindGroup = device.createBindGroup.bind(device)
  let described: GPUBindGroupDescriptor
  const make = (): GPUBindGroup => {
    const made = createBindGroup(described)
    const buffers = [...described.entries].map(({ resource }) => (resource as GPUBufferBinding).buffer)
    bound.set(
      made,
      buffers.filter((b) => b),
    )
    return made
  }
  const groups = recent(make)
  device.createBindGroup = (descriptor) => {
    let key = `${numberOf(descriptor.layout)}`
    for (const { resource } of descriptor.entries) {
      const { buffer, offset } = resource as GPUBufferBinding
      if (!buffer || offset) return createBindGroup(descriptor)
      key += `,${numberOf(buffer)}`
    }
    described = descriptor
    return groups(key)
  }
}
