import { backend, clone, dispose, scalar, type Tensor, type TensorInfo, tidy } from '@tensorflow/tfjs-core'
import type { Params } from '@weftjs/spec'
import { engine } from './engine.ts'
import { isLive } from './grad.ts'
import { type Gpu, track } from './kernels/webgpu/program.ts'
import { compare, type Recording, record } from './kernels/webgpu/recording.ts'
import { flush } from './kernels/webgpu/tap.ts'
import { mapParams } from './params.ts'

export interface Replay<I extends Params, O extends Params> {
  (inputs: I): O
  /** forms of the inputs (names, shapes, types) that are replayed by now */
  readonly recorded: number
  /** gives the buffers back; the next calls record anew */
  release(): void
}

/** One form of the inputs, in buffers of its own. */
interface Form {
  readonly gpu: Gpu
  readonly inputs: readonly { readonly name: string; readonly buffer: GPUBuffer }[]
  readonly names: string[]
  calls: number
  first?: Recording
  recording?: Recording
}

const formOf = (inputs: Params): string =>
  Object.entries(inputs)
    .map(([n, t]) => `${n} ${t.dtype} ${t.shape}`)
    .join('; ')

/** a tensor of the recording's own that lies in this buffer */
const standIn = (gpu: Gpu, { shape, dtype }: Tensor, buffer: GPUBuffer): Tensor => {
  const info = gpu.makeTensorInfo(shape, dtype)
  gpu.tensorMap.get(info.dataId).resource = buffer
  return track(info)
}

/** tensors to come have higher numbers */
const idNow = (): number => {
  const t = scalar(0)
  t.dispose()
  return t.id
}

/** what the inputs hold now, into the buffers that stand for them */
const fill = ({ gpu, inputs }: Form, given: Params): void => {
  for (const { name, buffer } of inputs) {
    const { dataId } = given[name]!
    gpu.uploadToGPU(dataId)
    gpu.ensureCommandEncoderReady()
    gpu.endComputePassEncoder()
    gpu.commandEncoder!.copyBufferToBuffer(gpu.tensorMap.get(dataId).resource as GPUBuffer, 0, buffer, 0, buffer.size)
  }
}

/** outputs as tensors of the caller's */
const copies = (gpu: Gpu, { outputs }: Recording): Tensor[] =>
  outputs.map(({ info: { shape, dtype }, buffer }) => {
    const made = gpu.makeTensorInfo([...shape], dtype)
    gpu.uploadToGPU(made.dataId)
    gpu.ensureCommandEncoderReady()
    gpu.endComputePassEncoder()
    gpu.commandEncoder!.copyBufferToBuffer(
      buffer,
      0,
      gpu.tensorMap.get(made.dataId).resource as GPUBuffer,
      0,
      buffer.size,
    )
    return track(made)
  })

const again = ({ gpu }: Form, { commands }: Recording): void => {
  gpu.ensureCommandEncoderReady()
  gpu.endComputePassEncoder()
  const pass = gpu.commandEncoder!.beginComputePass()
  let last: GPUComputePipeline | undefined
  for (const { pipeline, group, groups } of commands) {
    if (pipeline !== last) pass.setPipeline(pipeline)
    last = pipeline
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(groups[0], groups[1], groups[2])
  }
  pass.end()
}

/**
 * f, whose kernels are recorded and from then on submitted again as they were, without the JavaScript that led to them.
 * For each form of the inputs f runs three times: once as it is, and twice recorded; both must do the same. f depends on
 * nothing but its inputs and on tensors that stay: numbers that change (a rate, a step, noise) are tensors among the
 * inputs. The memory of one call stays taken until `release`. Elsewhere than on WebGPU it is f itself.
 * @throws Error where the two recorded calls differ, f reads a tensor back, or writes over a constant; it says which
 * @example
 * const step = replay(({ ids, ...params }) => { const { loss, grads } = backprop((p) => lossOf(p, ids), params); return { loss, ...grads } })
 */
export const replay = <I extends Params, O extends Params>(f: (inputs: I) => O): Replay<I, O> => {
  const forms = new Map<string, Form>()
  const forget = (form: Form): void => {
    form.first?.release()
    form.recording?.release()
    for (const { buffer } of form.inputs) buffer.destroy()
  }
  const open = (gpu: Gpu, inputs: I): Form => ({
    gpu,
    inputs: Object.entries(inputs).map(([name, t]) => ({
      name,
      buffer: gpu.device.createBuffer({
        size: Math.max(4, t.size * 4),
        usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
      }),
    })),
    names: [],
    calls: 0,
  })
  const recorded = (form: Form, inputs: I): { recording: Recording; made: Tensor[] } => {
    const { gpu } = form
    const before = idNow()
    fill(form, inputs)
    const stands = Object.fromEntries(
      form.inputs.map(({ name, buffer }) => [name, standIn(gpu, inputs[name]!, buffer)]),
    ) as Params as I
    let outputs: Tensor[] = []
    try {
      const recording = record(
        gpu,
        form.inputs.map(({ buffer }) => buffer),
        (): TensorInfo[] => {
          const found = tidy(() => f(stands) as never) as O
          outputs = Object.values(found)
          form.names.splice(0, form.names.length, ...Object.keys(found))
          return outputs
        },
      )
      const made = copies(gpu, recording)
      flush(gpu)
      // what f returned is copied; a tensor from before it is not ours
      dispose(outputs.filter((t) => t.id > before && !Object.values(stands).includes(t)))
      return { recording, made }
    } finally {
      // the buffers are the form's, not the pool's: they are only let go of
      for (const t of Object.values(stands)) {
        if (t.isDisposed) continue
        gpu.tensorMap.get(t.dataId).resource = null
        t.dispose()
      }
    }
  }
  /** an input that is returned is returned as a tensor of its own, as it is by a replay */
  const plainly = (inputs: I): O => {
    const given = new Set(Object.values(inputs))
    return tidy(() => mapParams(f(inputs), (t) => (given.has(t) ? clone(t) : t)) as never) as O
  }
  const run = (inputs: I): O => {
    if (Object.values(inputs).some(isLive))
      throw new Error('replay: an input is being differentiated; take the gradient within the replayed function')
    if (engine().backendName !== 'webgpu') return plainly(inputs)
    const gpu = backend() as unknown as Gpu
    const key = formOf(inputs)
    let form = forms.get(key)
    if (form && form.gpu !== gpu) {
      forms.delete(key)
      form = undefined
    }
    form ??= open(gpu, inputs)
    forms.set(key, form)
    const named = (tensors: readonly Tensor[]): O =>
      Object.fromEntries(form.names.map((n, i) => [n, tensors[i]!])) as Params as O
    if (form.recording) {
      fill(form, inputs)
      again(form, form.recording)
      const made = copies(gpu, form.recording)
      flush(gpu)
      return named(made)
    }
    if (!form.calls++) return plainly(inputs)
    try {
      const { recording, made } = recorded(form, inputs)
      if (!form.first) form.first = recording
      else {
        try {
          compare(form.first, recording)
        } catch (error) {
          recording.release()
          dispose(made)
          throw error
        }
        form.first.release()
        delete form.first
        form.recording = recording
      }
      return named(made)
    } catch (error) {
      forms.delete(key)
      forget(form)
      throw error
    }
  }
  return Object.defineProperty(
    Object.assign(run, {
      release: () => {
        for (const form of forms.values()) forget(form)
        forms.clear()
      },
      recorded: 0,
    }),
    'recorded',
    { get: () => [...forms.values()].filter((form) => form.recording).length },
  ) as Replay<I, O>
}
