import { engine, type Tensor, type TensorInfo } from '@tensorflow/tfjs-core'
import type { Pool } from './buffers.ts'

/** What lies on the GPU for a tensor, or waits to be written there. */
export interface Stored {
  readonly dtype: string
  readonly shape: readonly number[]
  resource?: GPUBuffer | GPUTexture | null
  values?: ArrayLike<number> | null
}

/** What we use of tfjs's WebGPUBackend beyond its public types. One place, so that an upgrade is checked here. */
export interface Gpu {
  readonly device: GPUDevice
  readonly tensorMap: { get(dataId: object): Stored; has(dataId: object): boolean }
  bufferManager: Pool
  uniformPendingDisposal: GPUBuffer[]
  commandQueueOwnedIds: WeakSet<object>
  commandEncoder: GPUCommandEncoder | null
  computePassEncoder: GPUComputePassEncoder | null
  dispatchCountInPass: number
  makeTensorInfo(shape: number[], dtype: string): TensorInfo
  makeUniforms(fields: { type: 'uint32' | 'int32' | 'float32'; data: number[] }[]): GPUBufferBinding
  uploadToGPU(dataId: object): void
  disposeData(dataId: object): boolean
  ensureCommandEncoderReady(): void
  endComputePassEncoder(): void
  submitQueue(): void
}

type Scalar = 'f32' | 'i32' | 'u32'
/** A compute shader. `name` stands for its code: equal names, equal code. */
export interface Program {
  readonly name: string
  /** buffers that are written, then those that are read; `ids: i32` where not f32 */
  readonly writes: readonly string[]
  readonly reads: readonly string[]
  /** numbers by name, read as `u.width`; 'vec4u' takes four */
  readonly uniforms: Readonly<Record<string, 'u32' | 'f32' | 'vec4u'>>
  /** extensions of the language that the device must have; 'subgroups' brings the u32 subgroupSize and subgroupLane */
  readonly enables?: readonly ('f16' | 'subgroups')[]
  /** functions and workgroup variables */
  readonly head?: string
  /** of `main`, with group, groups (vec3u) and local (u32, 0 to threads − 1) */
  readonly body: string
  readonly threads: number
}

const storage = (name: string, access: string, binding: number): string => {
  const [id, type = 'f32'] = name.split(': ') as [string, Scalar?]
  return `@group(0) @binding(${binding}) var<storage, ${access}> ${id}: array<${type}>;`
}

/** the whole text of the shader */
export const source = ({ writes, reads, uniforms, enables = [], head = '', body, threads }: Program): string => {
  const fields = Object.entries(uniforms).map(([name, type]) => `${name}: ${type}`)
  return [
    ...enables.map((name) => `enable ${name};`),
    `struct Uniforms { ${fields.join(', ')} }`,
    ...writes.map((name, i) => storage(name, 'read_write', i)),
    ...reads.map((name, i) => storage(name, 'read', writes.length + i)),
    `@group(0) @binding(${writes.length + reads.length}) var<uniform> u: Uniforms;`,
    head,
    `@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) group: vec3u,
      @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32${
        enables.includes('subgroups')
          ? ', @builtin(subgroup_size) subgroupSize: u32, @builtin(subgroup_invocation_id) subgroupLane: u32'
          : ''
      }) {`,
    body,
    '}',
  ].join('\n')
}

/** Σ over the workgroup, for every thread, as `total(value, local)` */
export const total = (threads: number): string => `
var<workgroup> parts: array<f32, ${threads}>;
fn total(value: f32, local: u32) -> f32 {
  parts[local] = value;
  workgroupBarrier();
  for (var step = ${threads / 2}u; step > 0u; step >>= 1u) {
    if (local < step) { parts[local] += parts[local + step]; }
    workgroupBarrier();
  }
  let found = parts[0];
  workgroupBarrier();
  return found;
}`
/** the same with two barriers in place of a dozen; the first lane of each subgroup brings its sum, wherever it stands */
const totalOfSubgroups = (threads: number): string => `
var<private> lane: u32;
var<private> lanes: u32;
var<workgroup> parts: array<f32, ${threads}>;
fn total(value: f32, local: u32) -> f32 {
  let sum = subgroupAdd(value);
  parts[local] = select(0.0, sum, lane == 0u);
  workgroupBarrier();
  var share = 0.0;
  for (var i = lane; i < ${threads}u; i += lanes) { share += parts[i]; }
  let found = subgroupAdd(share);
  workgroupBarrier();
  return found;
}`

/** `subgroups: false` keeps to workgroup memory (tests, doubts, comparisons) */
export const reductions: { subgroups: boolean } = { subgroups: true }

/** the program with sums over subgroups, where it has sums and the device subgroups that fill a workgroup */
export const bySubgroups = (device: GPUDevice, program: Program): Program => {
  const { name, head = '', body, threads, enables = [] } = program
  const plain = total(threads)
  if (!reductions.subgroups || !head.includes(plain) || !device.features.has('subgroups')) return program
  const { subgroupMaxSize = 128 } = device.adapterInfo ?? {}
  if (subgroupMaxSize > threads) return program
  return {
    ...program,
    name: `${name} by subgroups`,
    enables: [...new Set([...enables, 'subgroups' as const])],
    head: head.replace(plain, totalOfSubgroups(threads)),
    body: `lane = subgroupLane; lanes = subgroupSize;${body}`,
  }
}

interface Compiled {
  readonly layout: GPUBindGroupLayout
  readonly pipeline: GPUComputePipeline
}
/** how many of a pipeline's bindings it writes, the first ones; those that are not here are tfjs's, which write one */
export const writesOf: WeakMap<GPUComputePipeline, number> = new WeakMap()
const caches = new WeakMap<GPUDevice, Map<string, Compiled>>()

const compile = (device: GPUDevice, given: Program): Compiled => {
  const program = bySubgroups(device, given)
  const cache = caches.get(device) ?? new Map<string, Compiled>()
  caches.set(device, cache)
  const found = cache.get(program.name)
  if (found) return found
  const { writes, reads, name } = program
  const types: GPUBufferBindingType[] = [
    ...writes.map(() => 'storage' as const),
    ...reads.map(() => 'read-only-storage' as const),
    'uniform',
  ]
  const layout = device.createBindGroupLayout({
    entries: types.map((type, binding) => ({ binding, visibility: 4 /* compute */, buffer: { type } })),
  })
  const made = {
    layout,
    pipeline: device.createComputePipeline({
      label: name,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ label: name, code: source(program) }), entryPoint: 'main' },
    }),
  }
  writesOf.set(made.pipeline, writes.length)
  cache.set(name, made)
  return made
}

/** one submission in so many dispatches: the device works while the next are recorded */
export const BATCH = 64

export interface Call {
  readonly reads: readonly TensorInfo[]
  /** outputs to make: shapes of float32 or with another dtype; or a tensor to overwrite, which must not be read too */
  readonly writes: readonly (
    | readonly number[]
    | { readonly shape: readonly number[]; readonly dtype: string }
    | TensorInfo
  )[]
  readonly uniforms: readonly (number | readonly number[])[]
  readonly groups: readonly [x: number, y?: number, z?: number]
}

const output = (gpu: Gpu, to: Call['writes'][number]): TensorInfo => {
  if ('dataId' in to) return to
  return 'dtype' in to ? gpu.makeTensorInfo([...to.shape], to.dtype) : gpu.makeTensorInfo([...to], 'float32')
}

/** Records one dispatch on tfjs's own command encoder, in order with its kernels. → what was written */
export const dispatch = (gpu: Gpu, program: Program, call: Call): TensorInfo[] => {
  const { layout, pipeline } = compile(gpu.device, program)
  const outputs = call.writes.map((to) => output(gpu, to))
  const all = [...outputs, ...call.reads]
  for (const { dataId } of all) gpu.uploadToGPU(dataId)
  // what was read before is out of date where it is overwritten
  for (const { dataId } of outputs) gpu.tensorMap.get(dataId).values = null
  const types = Object.values(program.uniforms)
  const fields = call.uniforms.map((value, i) => ({
    type: types[i] === 'f32' ? ('float32' as const) : ('uint32' as const),
    data: [value].flat() as number[],
  }))
  const buffers = [
    ...all.map(({ dataId }) => ({ buffer: gpu.tensorMap.get(dataId).resource as GPUBuffer })),
    gpu.makeUniforms(fields),
  ]
  const group = gpu.device.createBindGroup({
    layout,
    entries: buffers.map((resource, binding) => ({ binding, resource })),
  })
  gpu.ensureCommandEncoderReady()
  gpu.computePassEncoder ??= gpu.commandEncoder!.beginComputePass()
  gpu.computePassEncoder.setPipeline(pipeline)
  gpu.computePassEncoder.setBindGroup(0, group)
  gpu.computePassEncoder.dispatchWorkgroups(...(call.groups as [number, number?, number?]))
  if (++gpu.dispatchCountInPass >= BATCH) {
    gpu.endComputePassEncoder()
    gpu.submitQueue()
  }
  return outputs
}

/** a tensor that tfjs's engine tracks */
export const track = (info: TensorInfo): Tensor => engine().makeTensorFromTensorInfo(info)

/** n workgroups folded into two dimensions: the shader finds its own as `group.y * groups.x + group.x` */
export const fold = (gpu: Gpu, n: number): [number, number] => {
  const most = gpu.device.limits.maxComputeWorkgroupsPerDimension
  if (n <= most) return [n, 1]
  const rows = Math.ceil(n / most)
  return [Math.ceil(n / rows), rows]
}

/** float32, also as it lies on the GPU, and not empty: what the shaders here can read */
export const plainFloats = (gpu: Gpu, ...tensors: readonly (TensorInfo | undefined)[]): boolean =>
  tensors.every(
    (t) =>
      !t || (t.dtype === 'float32' && gpu.tensorMap.get(t.dataId).dtype === 'float32' && t.shape.every((n) => n > 0)),
  )
