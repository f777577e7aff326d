import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { launchBrowser } from '../../../tools/browser.mjs'
import { softwareVulkan } from '../../../tools/swiftshader.mjs'

// One program for both places: it adds two arrays in a compute shader, plain WebGPU and nothing of ours.
const program = `async (gpu, a, b) => {
  const adapter = await gpu.requestAdapter()
  if (!adapter) return { error: 'no adapter' }
  const device = await adapter.requestDevice()
  const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage
  const size = a.length * 4
  const upload = (values) => {
    const buffer = device.createBuffer({ size, usage: STORAGE | COPY_DST })
    device.queue.writeBuffer(buffer, 0, new Float32Array(values))
    return buffer
  }
  const out = device.createBuffer({ size, usage: STORAGE | COPY_SRC })
  const back = device.createBuffer({ size, usage: MAP_READ | COPY_DST })
  const module = device.createShaderModule({ code: \`
    @group(0) @binding(0) var<storage, read> a: array<f32>;
    @group(0) @binding(1) var<storage, read> b: array<f32>;
    @group(0) @binding(2) var<storage, read_write> c: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&c)) { c[id.x] = a[id.x] + b[id.x]; }
    }\` })
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } })
  const entries = [upload(a), upload(b), out].map((buffer, binding) => ({ binding, resource: { buffer } }))
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries })
  const encoder = device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  pass.setPipeline(pipeline)
  pass.setBindGroup(0, group)
  pass.dispatchWorkgroups(Math.ceil(a.length / 64))
  pass.end()
  encoder.copyBufferToBuffer(out, 0, back, 0, size)
  device.queue.submit([encoder.finish()])
  await back.mapAsync(GPUMapMode.READ)
  const sum = [...new Float32Array(back.getMappedRange())]
  device.destroy()
  return { vendor: adapter.info.vendor, sum }
}`

const a = Array.from({ length: 100 }, (_, i) => i / 4)
const b = Array.from({ length: 100 }, (_, i) => 1000 - i)
const sum = a.map((x, i) => x + b[i]!)
const call = (gpu: string) => `(${program})(${gpu}, ${JSON.stringify(a)}, ${JSON.stringify(b)})`

describe('WebGPU from npm alone', () => {
  const closing: (() => unknown)[] = []
  afterAll(async () => {
    for (const close of closing.reverse()) await close()
  })

  it('adds two arrays in Chromium', async () => {
    const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html>'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closing.push(() => server.close())
    const browser = await launchBrowser()
    closing.push(() => browser.close())
    const page = await browser.newPage()
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    const result = await page.evaluate(call('navigator.gpu'))
    expect(result).toMatchObject({ vendor: expect.stringMatching(/./), sum })
  })

  // Dawn reads the Vulkan variables when its process starts, so it runs in a child whatever this process was given.
  it('adds two arrays in Node', async () => {
    const script = `import { create, globals } from 'webgpu'
      Object.assign(globalThis, globals)
      const gpu = create([])
      console.log(JSON.stringify(await ${call('gpu')}))`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, ...(await softwareVulkan()) },
    })
    expect(JSON.parse(stdout)).toMatchObject({ vendor: expect.stringMatching(/./), sum })
  })
})
