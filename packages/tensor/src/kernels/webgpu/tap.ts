import type { Gpu } from './program.ts'

export type Begin = (descriptor?: GPUComputePassDescriptor) => GPUComputePassEncoder

/** Ends and submits what is recorded so far. */
export const flush = (gpu: Gpu): void => {
  gpu.endComputePassEncoder()
  if (gpu.commandEncoder) gpu.submitQueue()
}

/**
 * Compute passes of all encoders to come are what `pass` makes of them, for tfjs's kernels and ours alike; → back to
 * how it was. Taps may be put over one another and come off in the opposite order.
 */
export const tap = (
  gpu: Gpu,
  pass: (begin: Begin, encoder: GPUCommandEncoder) => GPUComputePassEncoder,
): (() => void) => {
  const { device } = gpu
  flush(gpu)
  const before = Object.getOwnPropertyDescriptor(device, 'createCommandEncoder')
  const create = device.createCommandEncoder.bind(device)
  device.createCommandEncoder = (descriptor) => {
    const encoder = create(descriptor)
    const begin = encoder.beginComputePass.bind(encoder)
    encoder.beginComputePass = () => pass(begin, encoder)
    return encoder
  }
  return () => {
    flush(gpu)
    if (before) Object.defineProperty(device, 'createCommandEncoder', before)
    else Reflect.deleteProperty(device, 'createCommandEncoder')
  }
}

/** A pass that is told of one dispatch at a time. */
export const each = (
  dispatch: (pipeline: GPUComputePipeline, group: GPUBindGroup, groups: [number, number, number]) => void,
  end: () => void = () => {},
): GPUComputePassEncoder => {
  let pipeline: GPUComputePipeline
  let group: GPUBindGroup
  const pass = {
    setPipeline: (next: GPUComputePipeline) => {
      pipeline = next
    },
    setBindGroup: (_: number, next: GPUBindGroup) => {
      group = next
    },
    dispatchWorkgroups: (x: number, y = 1, z = 1) => dispatch(pipeline, group, [x, y, z]),
    end,
  }
  return pass as unknown as GPUComputePassEncoder
}
