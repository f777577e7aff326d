import { describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'

await w.cpu()

/** central differences of Σ f(x)·c in each input */
const numeric = (f: (xs: w.Tensor[]) => w.Tensor, xs: w.Tensor[], which: number, c: w.Tensor): Float32Array => {
  const at = xs[which]!
  const values = Float32Array.from(at.dataSync())
  const h = 1e-2
  return values.map((v, i) => {
    const probe = (d: number): number => {
      const moved = values.slice()
      moved[i] = v + d
      return w.sum(w.mul(f(xs.map((x, j) => (j === which ? w.tensor(moved, at.shape) : x))), c)).dataSync()[0]!
    }
    return (probe(h) - probe(-h)) / (2 * h)
  })
}

const check = (name: string, shapes: number[][], f: (...xs: w.Tensor[]) => w.Tensor, positive = false): void => {
  it(name, () => {
    const r = w.rng(7)
    const xs = shapes.map((s) => (positive ? r.uniform(s, 0.5, 2) : r.normal(s)))
    const y = f(...xs)
    const c = r.normal(y.shape)
    const { grads } = w.gradients(() => w.sum(w.mul(f(...xs), c)), xs)
    xs.forEach((_, i) => {
      const expected = numeric((all) => f(...all), xs, i, c)
      const found = grads[i]!.dataSync()
      const scale = Math.max(1, ...expected.map(Math.abs))
      expected.forEach((e, j) => {
        expect(Math.abs(found[j]! - e) / scale, `input ${i} element ${j}: ${found[j]} vs ${e}`).toBeLessThan(2e-2)
      })
    })
  })
}

describe('gradients agree with central differences', () => {
  check('add broadcast', [[2, 3], [3]], w.add)
  check(
    'sub broadcast',
    [
      [2, 1],
      [2, 3],
    ],
    w.sub,
  )
  check(
    'mul broadcast',
    [
      [2, 3],
      [1, 3],
    ],
    w.mul,
  )
  check('div', [[2, 3], [3]], w.div, true)
  check(
    'pow',
    [
      [2, 3],
      [2, 3],
    ],
    w.pow,
    true,
  )
  check('squaredDifference', [[4], [4]], w.squaredDifference)
  check('exp', [[4]], w.exp)
  check('log', [[4]], w.log, true)
  check('sqrt', [[4]], w.sqrt, true)
  check('rsqrt', [[4]], w.rsqrt, true)
  check('sigmoid', [[4]], w.sigmoid)
  check('tanh', [[4]], w.tanh)
  check('erf', [[4]], w.erf)
  check('softplus', [[4]], w.softplus)
  check('softmax', [[2, 5]], (x) => w.softmax(x!))
  check('logSoftmax', [[2, 5]], (x) => w.logSoftmax(x!))
  check('mean over an axis', [[2, 3, 4]], (x) => w.mean(x!, 1))
  check('max', [[3, 4]], (x) => w.max(x!, 1))
  check('cumsum', [[3, 4]], (x) => w.cumsum(x!, 1, true))
  check('transpose', [[2, 3, 4]], (x) => w.transpose(x!, [2, 0, 1]))
  check('slice', [[4, 5]], (x) => w.slice(x!, [1, 2], [2, 3]))
  check(
    'concat',
    [
      [2, 3],
      [2, 2],
    ],
    (a, b) => w.concat([a!, b!], 1),
  )
  check('split', [[2, 6]], (x) => w.mul(...(w.split(x!, 2, 1) as [w.Tensor, w.Tensor])))
  check('stack', [[3], [3]], (a, b) => w.stack([a!, b!], 1))
  check('unstack', [[2, 3]], (x) => w.mul(...(w.unstack(x!, 0) as [w.Tensor, w.Tensor])))
  check('pad', [[2, 3]], (x) =>
    w.pad(x!, [
      [1, 0],
      [0, 2],
    ]),
  )
  check('tile', [[2, 3]], (x) => w.tile(x!, [3, 2]))
  check('gather', [[4, 3]], (x) => w.gather(x!, w.tensor1d([1, 3, 1], 'int32')))
  check('gather on axis 1', [[3, 4]], (x) => w.gather(x!, w.tensor1d([1, 3, 1], 'int32'), 1))
  check('where', [[4], [4]], (a, b) => w.where(w.tensor1d([1, 0, 1, 0], 'bool'), a!, b!))
  for (const ta of [false, true])
    for (const tb of [false, true])
      check(`matMul ${ta} ${tb}`, [ta ? [2, 4, 3] : [2, 3, 4], tb ? [5, 4] : [4, 5]], (a, b) =>
        w.matMul(a!, b!, ta, tb),
      )
  check(
    'linear',
    [
      [2, 3, 4],
      [5, 4],
    ],
    w.linear,
  )
  check('rmsNorm', [[2, 3, 4], [4]], (x, s) => w.rmsNorm(x!, s!))
  check('layerNorm', [[2, 3, 4], [4], [4]], (x, s, b) => w.layerNorm(x!, s!, b!))
  for (const a of ['silu', 'gelu', 'gelu_tanh', 'tanh'] as const) {
    check(`activate ${a}`, [[7]], (x) => w.activate(x!, a))
    check(`glu ${a}`, [[7], [7]], (x, y) => w.glu(x!, y!, a))
  }
  check('rotary', [[1, 2, 3, 4]], (x) =>
    w.rotary(x!, w.cos(w.tensor([0, 0, 1, 0.1, 2, 0.2], [3, 2])), w.sin(w.tensor([0, 0, 1, 0.1, 2, 0.2], [3, 2]))),
  )
  const qkv = [
    [2, 4, 3, 2],
    [2, 2, 3, 2],
    [2, 2, 3, 2],
  ]
  check('attention, grouped, causal', qkv, (q, k, v) => w.attention(q!, k!, v!, undefined, { causal: true }))
  check('attention, window and softcap', qkv, (q, k, v) =>
    w.attention(q!, k!, v!, undefined, { causal: true, window: 2, softcap: 3 }),
  )
  check('attention, bias', [...qkv, [1, 1, 3, 3]], (q, k, v, b) => w.attention(q!, k!, v!, b!))
  const targets = w.tensor1d([1, 4, 0], 'int32')
  const weights = w.tensor1d([0.5, 0.5, 0])
  check(
    'crossEntropy',
    [
      [3, 4],
      [6, 4],
    ],
    (h, e) => w.crossEntropy(h!, e!, targets, weights, { rows: 2 }),
  )
  check(
    'crossEntropy, softcap',
    [
      [3, 4],
      [6, 4],
    ],
    (h, e) => w.crossEntropy(h!, e!, targets, weights, { rows: 2, softcap: 2 }),
  )
  check(
    'recompute',
    [
      [2, 3],
      [3, 3],
    ],
    (x, m) => w.recompute((y) => w.tanh(w.matMul(y, m!)), x!, [m!]),
  )
  check('stopGradient', [[3]], (x) => w.add(w.mul(x!, 2), w.mul(0, w.stopGradient(x!))))
})

describe('the tape', () => {
  it('keeps nothing of what is frozen', () => {
    const frozen = w.ones([64, 64])
    const x = w.ones([8, 64])
    const trained = w.ones([1])
    let during = 0
    const before = w.memory().numBytes
    const { grads } = w.backprop(
      (p) => {
        let h: w.Tensor = x
        for (let i = 0; i < 8; i++) {
          const next = w.tidy(() => w.relu(w.linear(h, frozen)))
          if (i) h.dispose()
          h = next
        }
        during = w.memory().numBytes - before
        return w.sum(w.mul(h, p['t']!)) as w.Scalar
      },
      { t: trained },
    )
    expect(during).toBeLessThan(2 * 8 * 64 * 4 + 64)
    expect(grads['t']!.shape).toEqual([1])
  })

  it('leaves only loss and gradients behind', () => {
    const params = { a: w.ones([4, 4]), unused: w.ones([2]) }
    const before = w.memory().numTensors
    const { loss, grads } = w.backprop((p) => w.sum(w.softmax(w.linear(p['a']!, p['a']!))) as w.Scalar, params)
    expect(w.memory().numTensors).toBe(before + 3)
    expect([...grads['unused']!.dataSync()]).toEqual([0, 0])
    w.dispose([loss, ...Object.values(grads)])
    expect(w.memory().numTensors).toBe(before)
  })

  it('recompute keeps only the input, with equal gradients', () => {
    const m = w.rng(1).normal([16, 16], 0.3)
    const x = w.rng(2).normal([4, 16])
    const block = (h: w.Tensor): w.Tensor => w.tanh(w.linear(w.tanh(w.linear(h, m)), m))
    const run = (f: (h: w.Tensor) => w.Tensor): [number, number[]] => {
      const before = w.memory().numBytes
      let held = 0
      const { grads } = w.gradients(() => {
        let h: w.Tensor = x
        for (let i = 0; i < 4; i++) h = w.tidy(() => f(h))
        held = w.memory().numBytes - before
        return w.sum(h)
      }, [x, m])
      return [held, grads.flatMap((g) => [...g!.dataSync()])]
    }
    const [heldPlain, plain] = run(block)
    const [heldAgain, again] = run((h) => w.recompute(block, h, [m]))
    expect(heldAgain).toBeLessThan(heldPlain)
    again.forEach((g, i) => {
      expect(g).toBeCloseTo(plain[i]!, 5)
    })
  })

  it('frees everything when the loss throws', () => {
    const a = w.ones([4])
    const before = w.memory().numTensors
    expect(() =>
      w.backprop(
        (p) => {
          w.exp(p['a']!)
          throw new Error('stop')
        },
        { a },
      ),
    ).toThrow('stop')
    expect(w.memory().numTensors).toBe(before)
  })
})
