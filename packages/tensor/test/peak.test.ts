import { expect, it } from 'vitest'
import * as w from '../src/index.ts'

await w.cpu()

it('counts data once, however many tensors share it', () => {
  const peak = w.peakBytes()
  const start = peak.now
  const x = w.ones([10])
  peak.reset()
  expect(peak.now - start).toBe(40)
  const shared = [w.clone(x), w.reshape(x, [2, 5])]
  expect(peak.now - start).toBe(40)
  w.tidy(() => void w.add(x, 1))
  expect([peak.now - start, peak.bytes - start]).toEqual([40, 84]) // the sum, and the number as a tensor
  x.dispose()
  expect(peak.now - start).toBe(40)
  w.dispose(shared)
  expect([peak.now - start, peak.bytes - start]).toEqual([0, 84])
  peak.reset()
  expect(peak.bytes - start).toBe(0)
})
