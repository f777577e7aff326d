/** What the machine could do at most: products of large matrices, and copies of large buffers. */

/** least seconds of n tries */
const best = (n: number, f: () => void): number => {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < n; i++) {
    const begun = performance.now()
    f()
    least = Math.min(least, (performance.now() - begun) / 1000)
  }
  return least
}

/** GFLOP/s of `product`, which multiplies two n x n matrices */
export const peakOf = (n: number, product: () => void): number => (2 * n ** 3) / best(3, product) / 1e9

let held: { readonly from: Float32Array; readonly to: Float32Array } | undefined
/** GB/s read and written by a copy of 128 MB, which stay with the process: not where its memory is compared */
export const copyBandwidth = (): number => {
  held ??= { from: new Float32Array(2 ** 25), to: new Float32Array(2 ** 25) }
  const { from, to } = held
  return (2 * from.byteLength) / best(3, () => to.set(from)) / 1e9
}

const SHADER = `
@group(0) @binding(0) var<storage, read_write> out: array<vec4f>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let s = f32(id.x) * 1e-9;
  let m = vec4f(0.9999 + s);
  var a = vec4f(s); var b = vec4f(s + 0.1); var c = vec4f(s + 0.2); var d = vec4f(s + 0.3);
  for (var i = 0u; i < ROUNDS; i++) {
    a = fma(a, m, b); b = fma(b, m, c); c = fma(c, m, d); d = fma(d, m, a);
  }
  out[id.x] = a + b + c + d;
}`

/** seconds that a device takes for what `record` puts into a command */
const timed = async (device: GPUDevice, record: (encoder: GPUCommandEncoder) => void): Promise<number> => {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 3; i++) {
    const encoder = device.createCommandEncoder()
    record(encoder)
    const begun = performance.now()
    device.queue.submit([encoder.finish()])
    await device.queue.onSubmittedWorkDone()
    least = Math.min(least, (performance.now() - begun) / 1000)
  }
  return least
}

/** GFLOP/s of fused multiply-adds and GB/s of a copy, on a device of its own */
export const gpuLimits = async (software: boolean): Promise<{ gflops: number; bandwidth: number }> => {
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) throw new Error('no adapter')
  const device = await adapter.requestDevice()
  const [invocations, rounds] = software ? [2 ** 14, 256] : [2 ** 20, 4096]
  const out = device.createBuffer({ size: invocations * 16, usage: GPUBufferUsage.STORAGE })
  const module = device.createShaderModule({ code: SHADER.replace('ROUNDS', `${rounds}u`) })
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } })
  const entries = [{ binding: 0, resource: { buffer: out } }]
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries })
  const seconds = await timed(device, (encoder) => {
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(invocations / 64)
    pass.end()
  })
  const size = software ? 2 ** 25 : 2 ** 27
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
  const [a, b] = [device.createBuffer({ size, usage }), device.createBuffer({ size, usage })]
  const copy = await timed(device, (encoder) => encoder.copyBufferToBuffer(a, 0, b, 0, size))
  device.destroy()
  return { gflops: (invocations * rounds * 4 * 4 * 2) / seconds / 1e9, bandwidth: (2 * size) / copy / 1e9 }
}
