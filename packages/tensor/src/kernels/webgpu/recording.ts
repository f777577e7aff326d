import type { TensorInfo } from '@tensorflow/tfjs-core'
import { type Pool, pool } from './buffers.ts'
import { bound, keyOf } from './lighter.ts'
import { type Gpu, type Stored, writesOf } from './program.ts'
import { each, flush, tap } from './tap.ts'

/** Where a binding points: to a buffer made in the recording by its number, to numbers, or to a buffer from before it. */
type Place = string | GPUBuffer

export interface Command {
  readonly pipeline: GPUComputePipeline
  readonly group: GPUBindGroup
  readonly groups: readonly [number, number, number]
  readonly places: readonly Place[]
}

/** All commands of one call, and the buffers that they need, which nobody else is given. */
export interface Recording {
  readonly commands: readonly Command[]
  /** what the CPU handed to the GPU during the call, in its order */
  readonly constants: readonly (Uint8Array | string)[]
  readonly outputs: readonly { readonly info: TensorInfo; readonly buffer: GPUBuffer; readonly place: Place }[]
  /** gives everything back; what is replayed later is worthless */
  release(): void
}

const usage = (): number => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
const bytesOf = (values: ArrayLike<number>, dtype: string): Uint8Array => {
  const Kind = dtype === 'float32' ? Float32Array : Int32Array
  return new Uint8Array(new Kind(values).buffer)
}
const refuse = (what: string): never => {
  throw new Error(`replay: ${what}`)
}

/**
 * Runs f once for real, in buffers of its own, and keeps what it did. `given` are buffers that stand for inputs.
 * f's outputs lie in buffers of the recording or from before it.
 */
export const record = (gpu: Gpu, given: readonly GPUBuffer[], f: () => readonly TensorInfo[]): Recording => {
  const { device } = gpu
  flush(gpu)
  const outer = gpu.bufferManager
  const arena = pool(device)
  const numbers = new Map<GPUBuffer, string>(given.map((b, i) => [b, `input ${i}`]))
  const fixed = new Set<GPUBuffer>()
  const constants: (Uint8Array | string)[] = []
  const held: GPUBuffer[] = []
  let made = 0
  const fresh = (size: number, kind: number): GPUBuffer => {
    const buffer = arena.take(size, kind, false)
    if (!numbers.has(buffer)) numbers.set(buffer, `buffer ${made++}`)
    return buffer
  }
  const fix = (buffer: GPUBuffer, content: Uint8Array | string): GPUBuffer => {
    numbers.set(buffer, `constant ${constants.length}`)
    fixed.add(buffer)
    constants.push(content)
    return buffer
  }
  const own: Pool = {
    ...arena,
    take: (size, kind) => fresh(size, kind),
    acquireBuffer: (size, kind, mapped = false) => {
      if (mapped) return refuse('a buffer is mapped while it records')
      return kind & GPUBufferUsage.UNIFORM ? device.createBuffer({ size, usage: kind }) : fresh(size, kind)
    },
    // a constant keeps its buffer to itself, so that it is there at each replay
    releaseBuffer: (buffer, reuse) => {
      if (!numbers.has(buffer)) outer.releaseBuffer(buffer, reuse)
      else if (!fixed.has(buffer)) arena.releaseBuffer(buffer)
    },
    submitted: () => outer.submitted(),
  }
  const { makeUniforms, uploadToGPU } = gpu
  const commands: Command[] = []
  const dispatched = (pipeline: GPUComputePipeline, group: GPUBindGroup, groups: [number, number, number]): void => {
    const buffers = bound.get(group) ?? refuse(`${pipeline.label} binds what is no buffer`)
    const writes = writesOf.get(pipeline) ?? 1
    const places = buffers.map((buffer, i) => {
      if (i < writes && fixed.has(buffer))
        refuse(`${pipeline.label} writes over a tensor that f was given as a constant; make it an input`)
      const place = numbers.get(buffer)
      if (place !== undefined) return place
      outer.hold(buffer)
      held.push(buffer)
      return buffer
    })
    commands.push({ pipeline, group, groups, places })
  }
  const reading = (): never => refuse('f reads a tensor back from the GPU; return it instead')
  const off = tap(gpu, (begin, encoder) => {
    Object.assign(encoder, { copyBufferToBuffer: reading, copyBufferToTexture: reading })
    let pass: GPUComputePassEncoder | undefined
    return each(
      (pipeline, group, groups) => {
        dispatched(pipeline, group, groups)
        pass ??= begin()
        pass.setPipeline(pipeline)
        pass.setBindGroup(0, group)
        pass.dispatchWorkgroups(...groups)
      },
      () => pass?.end(),
    )
  })
  const outputs: { info: TensorInfo; buffer: GPUBuffer; place: Place }[] = []
  const release = (): void => {
    for (const buffer of held.splice(0)) outer.unhold(buffer)
    for (const { buffer } of outputs) arena.releaseBuffer(buffer)
    // what a tensor that f left somewhere still uses is left to it
    arena.dispose(true)
  }
  gpu.bufferManager = own
  gpu.uploadToGPU = (dataId) => {
    const data: Stored = gpu.tensorMap.get(dataId)
    if (data.resource != null || !data.values) {
      uploadToGPU(dataId)
      return
    }
    const bytes = bytesOf(data.values, data.dtype)
    const buffer = device.createBuffer({ size: bytes.byteLength, usage: usage() })
    if (bytes.byteLength) device.queue.writeBuffer(buffer, 0, bytes as Uint8Array<ArrayBuffer>)
    data.resource = fix(buffer, bytes)
    data.values = null
  }
  const same = new Map<string, GPUBufferBinding>()
  gpu.makeUniforms = (fields) => {
    const key = keyOf(fields)
    const found = same.get(key)
    if (found) return found
    const binding: GPUBufferBinding = Object.getPrototypeOf(gpu).makeUniforms.call(gpu, fields)
    gpu.uniformPendingDisposal.pop()
    fix(binding.buffer, key)
    same.set(key, binding)
    return binding
  }
  try {
    for (const info of f()) {
      gpu.uploadToGPU(info.dataId)
      const buffer = gpu.tensorMap.get(info.dataId).resource as GPUBuffer
      if (!numbers.has(buffer)) {
        outer.hold(buffer)
        held.push(buffer)
      }
      outputs.push({ info, buffer, place: numbers.get(buffer) ?? buffer })
    }
    return { commands, constants, outputs, release }
  } catch (error) {
    flush(gpu)
    release()
    throw error
  } finally {
    off()
    gpu.bufferManager = outer
    Object.assign(gpu, { makeUniforms, uploadToGPU })
  }
}

/** Is the second call what the first was, but for its inputs? Otherwise an error that says what changes. */
export const compare = (a: Recording, b: Recording): void => {
  if (a.commands.length !== b.commands.length)
    refuse(`f ran ${a.commands.length} kernels, then ${b.commands.length} for inputs of the same shapes`)
  a.commands.forEach(({ pipeline, groups }, i) => {
    const other = b.commands[i]!
    if (pipeline !== other.pipeline || groups.join() !== other.groups.join())
      refuse(`kernel ${i} was ${pipeline.label}, then ${other.pipeline.label} for inputs of the same shapes`)
  })
  if (a.constants.length !== b.constants.length) refuse('f hands over other numbers at each call; make them inputs')
  a.constants.forEach((content, i) => {
    const other = b.constants[i]!
    if (content.length === other.length && (content === other || [...content].every((v, j) => v === other[j]))) return
    const user = a.commands.find(({ places }) => places.includes(`constant ${i}`))?.pipeline.label ?? 'the output'
    refuse(`${user} is given numbers that change from call to call; make them a tensor among the inputs`)
  })
  a.commands.forEach(({ pipeline, places }, i) => {
    if (places.some((place, j) => place !== b.commands[i]!.places[j]))
      refuse(`${pipeline.label} reads a tensor that is no input, and another one at each call; make it an input`)
  })
  a.outputs.forEach(({ place }, i) => {
    if (place !== b.outputs[i]!.place) refuse(`output ${i} is another tensor at each call`)
  })
}
