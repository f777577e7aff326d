/** WebGPU in Node for sides that are not ours, and a count of what a device is given to do. */

/** `navigator.gpu` by Dawn, with the settings that our own nodeWebgpu() has */
export const dawn = async (): Promise<void> => {
  const { create, globals } = await import('webgpu')
  Object.assign(globalThis, globals)
  const host = globalThis as { navigator?: object }
  if (!host.navigator)
    Object.defineProperty(host, 'navigator', { value: { userAgent: 'Node' }, configurable: true, writable: true })
  const gpu = create(['disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension'])
  Object.defineProperty(host.navigator, 'gpu', { value: gpu, configurable: true })
}

/** Counts the compute passes' dispatches of this process from here on. → how many there have been */
export const countDispatches = (): (() => number) => {
  let count = 0
  const pass = (globalThis as unknown as { GPUComputePassEncoder: { prototype: Record<string, any> } })
    .GPUComputePassEncoder.prototype
  for (const name of ['dispatchWorkgroups', 'dispatchWorkgroupsIndirect']) {
    const original = pass[name]
    pass[name] = function (...args: unknown[]) {
      count++
      return original.apply(this, args)
    }
  }
  return () => count
}
