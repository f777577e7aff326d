import { describe, expect, it } from 'vitest'
import { explain } from '../src/worker/explain.ts'

describe('errors in words', () => {
  it.each([
    new RangeError('Array buffer allocation failed'),
    new WebAssembly.RuntimeError('Aborted(). Build with -sASSERTIONS for more info.'),
    new WebAssembly.RuntimeError('memory access out of bounds'),
    new Error('wasm: out of memory: the heap cannot grow by 8 bytes'),
    new Error('webgpu: out of memory: Failed to create a buffer'),
  ])('says of "%s" that the memory is used up', (error) => {
    const { message, fatal } = explain(error)
    expect(message).toMatch(/^The memory is used up\. Lower batch or length/)
    expect(message).toContain(error.message)
    expect(fatal).toBe(true)
  })

  it('says that the graphics processor is gone', () => {
    expect(explain(new Error('webgpu: the device was lost: hung; start a backend again'))).toMatchObject({
      message: expect.stringMatching(/^The graphics processor stopped answering/),
      fatal: true,
    })
  })

  it('leaves an error that says what to do as it is', () => {
    const message = 'blocks.0.attn.q: rank 64 exceeds min(32, 48); lower rank or narrow "at"'
    expect(explain(new Error(message))).toEqual({ message, fatal: false })
    expect(explain('told')).toEqual({ message: 'told', fatal: false })
  })
})
