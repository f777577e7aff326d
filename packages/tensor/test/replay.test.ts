import { env, setBackend } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import type { Gpu } from '../src/kernels/webgpu/program.ts'
import { refused, startGpu, there } from './gpu.ts'

let gpu: Gpu
beforeAll(async () => {
  await w.cpu()
  if (!there) return
  gpu = await startGpu()
  env().set('WEBGPU_CPU_FORWARD', false)
})
const numbers = async (t: w.Tensor): Promise<number[]> => [...(await t.data())]
const all = async (ts: Readonly<Record<string, w.Tensor>>): Promise<Record<string, number[]>> =>
  Object.fromEntries(
    await Promise.all(Object.entries(ts).map(async ([n, t]): Promise<[string, number[]]> => [n, await numbers(t)])),
  )

const [V, D, H, T] = [11, 8, 2, 6]
const frozen = () => {
  const r = w.rng(1)
  const m = (name: string, rows: number): w.Tensor => r.fork(name).normal([rows, D], 0.5)
  return { embed: m('embed', V), q: m('q', D), k: m('k', D), v: m('v', D), up: m('up', D) }
}
type Frozen = ReturnType<typeof frozen>
const heads = (x: w.Tensor): w.Tensor => w.transpose(w.reshape(x, [1, T, H, D / H]), [0, 2, 1, 3])
/** a block with its loss, and gradients of what is trained */
const stepOf =
  (f: Frozen) =>
  ({ ids, targets, ...params }: Record<string, w.Tensor>): Record<string, w.Tensor> => {
    const { loss, grads } = w.backprop((p) => {
      const h = w.reshape(w.gather(f.embed, ids as w.Tensor1D), [1, T, D])
      const x = w.rmsNorm(h, p['scale']!)
      const low = w.linear(w.linear(x, p['a']!), p['b']!)
      const q = w.add(w.linear(x, f.q), low)
      const y = w.attention(heads(q), heads(w.linear(x, f.k)), heads(w.linear(x, f.v)), undefined, { causal: true })
      const merged = w.add(h, w.reshape(w.transpose(y, [0, 2, 1, 3]), [1, T, D]))
      const out = w.add(merged, w.activate(w.linear(merged, f.up), 'silu'))
      return w.crossEntropy(w.reshape(out, [T, D]), f.embed, targets!, w.fill([T], 1 / T)) as w.Scalar
    }, params)
    return { loss, ...grads }
  }
const trained = (): Record<string, w.Tensor> => {
  const r = w.rng(2)
  return { scale: w.ones([D]), a: r.normal([3, D], 0.3), b: r.fork('b').normal([D, 3], 0.3) }
}
/** a few steps of descent on changing ids → losses, and the parameters after */
const descend = async (step: (inputs: Record<string, w.Tensor>) => Record<string, w.Tensor>, steps = 7) => {
  let params = trained()
  const losses: number[] = []
  const counts: number[] = []
  for (let i = 0; i < steps; i++) {
    const ids = w.tensor1d(
      Array.from({ length: T }, (_, t) => (t * t + i) % V),
      'int32',
    )
    const targets = w.tensor1d(
      Array.from({ length: T }, (_, t) => (3 * t + i) % V),
      'int32',
    )
    const { loss, ...grads } = step({ ids, targets, ...params })
    const next = w.tidy(() => w.mapParams(params, (p, n) => w.sub(p, w.mul(grads[n]!, 0.5))))
    losses.push(...(await numbers(loss!)))
    w.dispose([ids, targets, loss!, ...Object.values(grads), ...Object.values(params)])
    params = next
    counts.push(w.memory().numTensors)
  }
  const result = await all(params)
  w.dispose(Object.values(params))
  return { losses, result, counts }
}

describe.skipIf(!there)('a replayed step', () => {
  it('is the step, bit for bit, over several steps with other inputs', async () => {
    await setBackend('webgpu')
    const f = frozen()
    const plain = await descend(stepOf(f))
    const step = w.replay(stepOf(f))
    const again = await descend(step)
    expect(step.recorded).toBe(1)
    expect(again.losses).toEqual(plain.losses)
    expect(again.result).toEqual(plain.result)
    expect(new Set(again.counts).size).toBe(1)
    expect(new Set(again.losses).size).toBe(7)
    step.release()
    expect(step.recorded).toBe(0)
    // and once more, recorded anew
    expect((await descend(step)).losses).toEqual(plain.losses)
    step.release()
    w.dispose(Object.values(f))
    expect(refused).toEqual([])
  })

  it('runs the same kernels with one submission, and takes no more buffers', async () => {
    await setBackend('webgpu')
    const f = frozen()
    const step = w.replay(stepOf(f))
    const params = trained()
    const inputs = {
      ids: w.tensor1d([1, 2, 3, 4, 5, 6], 'int32'),
      targets: w.tensor1d([1, 2, 3, 4, 5, 6], 'int32'),
      ...params,
    }
    const once = async (): Promise<[kernels: number, buffers: number]> => {
      const profiling = w.startProfile()
      const made = step(inputs)
      const { rows } = await profiling.stop()
      await numbers(made['loss']!)
      w.dispose(Object.values(made))
      const { bufferManager } = gpu
      return [
        rows.reduce((n, r) => n + r.calls, 0),
        bufferManager.getNumUsedBuffers() + bufferManager.getNumFreeBuffers(),
      ]
    }
    const counts: [number, number][] = []
    for (let i = 0; i < 7; i++) counts.push(await once())
    expect(counts[6]![0]).toBe(counts[0]![0])
    expect(counts[6]![0]).toBeGreaterThan(20)
    expect(counts[6]![1]).toBe(counts[4]![1])
    const submit = gpu.submitQueue
    let submitted = 0
    gpu.submitQueue = () => {
      submitted++
      submit()
    }
    w.dispose(Object.values(step(inputs)))
    expect(submitted).toBe(1)
    gpu.submitQueue = submit
    step.release()
    w.dispose([...Object.values(f), ...Object.values(inputs)])
    expect(refused).toEqual([])
  })

  it('keeps each form of the inputs, and results of earlier calls', async () => {
    await setBackend('webgpu')
    const twice = w.replay(({ x }: { x: w.Tensor }) => ({ y: w.add(w.mul(x, 2), 1), same: x }))
    const made: w.Tensor[] = []
    for (let i = 0; i < 5; i++)
      for (const n of [2, 3]) {
        const x = w.fill([n], i)
        const { y, same } = twice({ x })
        made.push(y, same)
        x.dispose()
      }
    expect(twice.recorded).toBe(2)
    const values = await Promise.all(made.map(numbers))
    values.forEach((v, j) => {
      const [i, n] = [Math.floor(j / 4), j % 4 < 2 ? 2 : 3]
      expect(v).toEqual(Array(n).fill(j % 2 ? i : 2 * i + 1))
    })
    w.dispose(made)
    twice.release()
  })

  it('goes on with what it read from elsewhere, though its owner let it go', async () => {
    await setBackend('webgpu')
    const other = w.fill([300], 7)
    const add = w.replay(({ x }: { x: w.Tensor }) => ({ y: w.add(x, other) }))
    const x = w.ones([300])
    for (let i = 0; i < 3; i++) w.dispose(Object.values(add({ x })))
    other.dispose()
    const elsewhere = Array.from({ length: 6 }, (_, i) => w.fill([300], i))
    const { y } = add({ x })
    expect(new Set(await numbers(y))).toEqual(new Set([8]))
    w.dispose([x, y, ...elsewhere])
    add.release()
    expect(refused).toEqual([])
  })

  const x = () => ({ x: w.ones([4]) })
  const thrice = (f: (inputs: { x: w.Tensor }) => Record<string, w.Tensor>): void => {
    const step = w.replay(f)
    for (let i = 0; i < 3; i++) step(x())
  }
  it.each<[string, string, () => void]>([
    [
      'a number that changes',
      'BinaryOpProgram is given numbers that change from call to call; make them a tensor among the inputs',
      () => {
        let step = 0
        thrice(({ x }) => ({ y: w.mul(x, ++step) }))
      },
    ],
    [
      'a uniform that changes',
      'is given numbers that change from call to call',
      () => {
        let step = 0
        thrice(({ x }) => ({ y: w.clipByValue(x, 0, ++step) }))
      },
    ],
    [
      'a tensor from elsewhere that changes',
      'reads a tensor that is no input, and another one at each call; make it an input',
      () => {
        const others = [1, 2, 3].map((n) => w.fill([4], n))
        let step = 0
        thrice(({ x }) => ({ y: w.add(x, others[step++]!) }))
      },
    ],
    [
      'other kernels',
      'kernels, then',
      () => {
        let step = 0
        thrice(({ x }) => ({ y: ++step > 2 ? w.exp(w.exp(x)) : w.exp(x) }))
      },
    ],
    [
      'a read',
      'cannot read a GPU synchronously',
      () => {
        thrice(({ x }) => ({ y: w.fill([2], w.exp(x).dataSync()[0]!) }))
      },
    ],
    [
      'a constant that is written over',
      'writes over a tensor that f was given as a constant; make it an input',
      () => {
        thrice(({ x }) => ({ y: w.addInPlace({ a: w.tensor1d([1, 2, 3, 4]) }, { a: x })['a']! }))
      },
    ],
    [
      'a gradient taken from outside',
      'an input is being differentiated',
      () => {
        const f = w.replay(({ x }: { x: w.Tensor }) => ({ y: w.square(x) }))
        w.backprop((p) => w.sum(f({ x: p['x']! })['y']!) as w.Scalar, x())
      },
    ],
  ])('refuses %s, and leaves the backend as it was', async (_, message, run) => {
    await setBackend('webgpu')
    const { bufferManager, makeUniforms, uploadToGPU } = gpu
    expect(run).toThrow(message)
    expect([gpu.bufferManager, gpu.makeUniforms, gpu.uploadToGPU]).toEqual([bufferManager, makeUniforms, uploadToGPU])
    expect(Object.hasOwn(gpu.device, 'createCommandEncoder')).toBe(false)
    expect(await numbers(w.add(w.ones([2]), 1))).toEqual([2, 2])
    expect(refused).toEqual([])
  })
})

it('is the function itself where there is no GPU', async () => {
  await setBackend('cpu')
  let step = 0
  const f = w.replay(({ x }: { x: w.Tensor }) => ({ y: w.mul(x, ++step) }))
  const x = w.ones([2])
  for (const n of [1, 2, 3, 4]) expect([...f({ x }).y.dataSync()]).toEqual([n, n])
  expect(f.recorded).toBe(0)
})
