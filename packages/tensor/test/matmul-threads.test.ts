import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { backend, matMul, memory, type Tensor, tensor, tidy, zeros } from '@tensorflow/tfjs-core'
import { build } from 'esbuild'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { addressOf, heapBytes, inThreads, routines, threads } from '../src/heap.ts'
import { assemble, i32, loop, type Routine } from '../src/wasm/assemble.ts'
import { gemmOf, type Product } from '../src/wasm/batch-matmul.ts'
import type { WasmBackend } from '../src/wasm/heap.ts'
import { makePool, type Pool } from '../src/wasm/pool.ts'
import { isShared, sharing } from '../src/wasm/share.ts'
import { poolOf, sharedPaths, threadCount } from '../src/wasm/threads.ts'
import { wasm } from '../src/wasm.ts'

const fill = (size: number, seed: number): Float32Array => {
  let state = (seed * 2654435761 + 12345) >>> 0
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** adds 1 + 2⁸·thread to the word at `at`, after `turns` turns */
const mark: Routine = {
  name: 'mark',
  parameters: ['at', 'turns', 'thread'],
  body: ({ int }) => [
    loop(i32.gt(int('turns').get, i32.const(0)), int('turns').set(i32.sub(int('turns').get, i32.const(1)))),
    i32.store(
      int('at').get,
      i32.add(i32.load(int('at').get), i32.add(i32.const(1), i32.mul(int('thread').get, i32.const(256)))),
    ),
  ],
}

const current = (): WasmBackend => backend() as unknown as WasmBackend

beforeAll(async () => {
  vi.stubEnv('WEFT_BLAS', 'off')
  vi.stubEnv('WEFT_THREADS', '3')
  await wasm()
})
afterAll(() => {
  vi.unstubAllEnvs()
})

describe('a shared heap', () => {
  it('is what the backend works on, and grows', () => {
    expect(isShared(current().wasm.HEAPU8.buffer)).toBe(true)
    const before = current().wasm.HEAPU8.length
    const values = fill(before / 4 + 10, 1)
    const x = tensor(values)
    expect(x.dataSync().every((value, i) => value === values[i])).toBe(true)
    expect(current().wasm.HEAPU8.length).toBeGreaterThan(before)
    x.dispose()
  })

  it('is not asked for with one thread, or where the file is not to be had', async () => {
    expect(await sharedPaths('/nowhere/')).toBeUndefined()
    expect(await sharedPaths({ 'tfjs-backend-wasm-simd.wasm': '/nowhere.wasm' })).toBeUndefined()
    for (const other of [() => Promise.reject(new Error('not here')), async () => new Response('else')]) {
      vi.stubGlobal('fetch', other)
      expect(await sharedPaths()).toBeUndefined()
      vi.unstubAllGlobals()
    }
    expect(await sharedPaths()).toBeDefined()
    vi.stubEnv('WEFT_THREADS', '1')
    expect(threadCount()).toBe(1)
    expect(await sharedPaths()).toBeUndefined()
    vi.stubEnv('WEFT_THREADS', '3')
    expect(threadCount()).toBe(3)
  })

  it('is declared in a module that imports its memory, with and without a maximum', () => {
    const unshared = assemble([mark])
    const shared = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true })
    const load = (bytes: Uint8Array<ArrayBuffer>, own: WebAssembly.Memory): WebAssembly.Instance =>
      new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory: own } })
    expect(() => load(unshared, shared)).toThrow(WebAssembly.LinkError)
    expect(() => load(sharing(unshared), shared)).not.toThrow()
    expect(() => load(sharing(unshared), new WebAssembly.Memory({ initial: 1 }))).toThrow(WebAssembly.LinkError)
    expect(sharing(sharing(unshared))).toEqual(sharing(unshared))
  })
})

describe('threads', () => {
  const heap = (): { memory: WebAssembly.Memory; malloc: (bytes: number) => number } => {
    let end = 1024
    const own = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true })
    const malloc = (bytes: number): number => {
      end += bytes
      return end - bytes
    }
    return { memory: own, malloc }
  }
  const marked = (pool: Pool, own: WebAssembly.Memory, calls: number, turns: number): Int32Array => {
    new Int32Array(own.buffer).fill(0, 4096)
    pool.load(assemble([mark])).each(
      'mark',
      Array.from({ length: calls }, (_, i) => [16384 + 4 * i, turns]),
    )
    return new Int32Array(own.buffer, 16384, calls).slice()
  }

  it('do every call once, more of them than the table holds, and several threads do', async () => {
    const own = heap()
    const pool = makePool(own, 3)
    const seen = new Set<number>()
    // the workers need a while to start; meanwhile this thread does all
    for (let i = 0; i < 200 && seen.size < 3; i++) {
      const words = marked(pool, own.memory, 2500, 300)
      expect(words.every((word) => (word & 255) === 1)).toBe(true)
      for (const word of words) seen.add(word >> 8)
      await new Promise((done) => setTimeout(done, 20))
    }
    expect([...seen].sort()).toEqual([0, 1, 2])
  })

  it('keep their modules apart', () => {
    const own = heap()
    const pool = makePool(own, 2)
    const other = pool.load(
      assemble([
        { name: 'idle', parameters: ['at'], body: () => [] },
        {
          name: 'seven',
          parameters: ['at'],
          body: ({ int }) => i32.store(int('at').get, i32.const(7)),
        },
      ]),
    )
    for (let i = 0; i < 5; i++) {
      expect(marked(pool, own.memory, 50, 10).every((word) => (word & 255) === 1)).toBe(true)
      other.each(
        'seven',
        Array.from({ length: 50 }, (_, j) => [16384 + 4 * j]),
      )
      expect(new Int32Array(own.memory.buffer, 16384, 50).every((word) => word === 7)).toBe(true)
    }
  })

  it('tell of a call that fails, in whichever thread, and go on', () => {
    const own = heap()
    const pool = makePool(own, 3)
    const beyond = pool.load(assemble([mark]))
    for (let i = 0; i < 20; i++)
      expect(() =>
        beyond.each(
          'mark',
          Array.from({ length: 30 }, () => [2 ** 27, 1000]),
        ),
      ).toThrow()
    expect(marked(pool, own.memory, 100, 10).every((word) => (word & 255) === 1)).toBe(true)
  })

  it('are done without where none can be started', () => {
    const own = heap()
    const builtin = vi.spyOn(process, 'getBuiltinModule').mockImplementation(() => {
      throw new Error('no threads')
    })
    const words = marked(makePool(own, 4), own.memory, 100, 10)
    expect(builtin).toHaveBeenCalled()
    builtin.mockRestore()
    expect(words.every((word) => word === 1)).toBe(true)
  })

  it('are one where the memory is not shared', () => {
    const own = { ...heap(), memory: new WebAssembly.Memory({ initial: 1 }) }
    const pool = makePool(own, 4)
    expect(pool.threads).toBe(1)
    expect(marked(pool, own.memory, 20, 10).every((word) => word === 1)).toBe(true)
  })

  it('let the process end', async () => {
    const { outputFiles } = await build({
      stdin: {
        contents: `import { makePool } from './pool.ts'
          import { assemble } from './assemble.ts'
          const memory = new WebAssembly.Memory({ initial: 1, maximum: 9, shared: true })
          const pool = makePool({ memory, malloc: () => 1024 }, 3)
          const { each } = pool.load(assemble([{ name: 'idle', parameters: [], body: () => [] }]))
          const go = () => each('idle', Array.from({ length: 100 }, () => []))
          go()
          setTimeout(() => { go(); console.log('done') }, 100)`,
        resolveDir: new URL('../src/wasm', import.meta.url).pathname,
        loader: 'ts',
      },
      bundle: true,
      format: 'esm',
      platform: 'node',
      write: false,
    })
    const run = promisify(execFile)
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', outputFiles[0]!.text], {
      timeout: 20_000,
      env: {},
    })
    expect(stdout).toBe('done\n')
  })
})

describe('products in threads', () => {
  interface Part extends Omit<Product, 'a' | 'b' | 'c' | 'lda' | 'ldb' | 'ldc'> {
    readonly wider: readonly [number, number, number]
  }
  const size = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 64, max: 300 }))
  const part: fc.Arbitrary<Part> = fc.record({
    m: size,
    n: size,
    k: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 200, max: 700 })),
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
    add: fc.boolean(),
    wider: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)),
  })

  const check = (parts: readonly Part[]): void => {
    const made = parts.map((p, i) => {
      const { m, n, k, transposeA, transposeB, wider } = p
      const lda = (transposeA ? m : k) + wider[0]
      const ldb = (transposeB ? k : n) + wider[1]
      const ldc = n + wider[2]
      const data = [(transposeA ? k : m) * lda, (transposeB ? n : k) * ldb, m * ldc].map((length, j) =>
        fill(length, 3 * i + j),
      ) as [Float32Array, Float32Array, Float32Array]
      return { p, data, strides: { lda, ldb, ldc }, tensors: data.map((values) => tensor(values)) }
    })
    gemmOf(current())!(
      ...made.map(({ p, strides, tensors }) => {
        const [a, b, c] = tensors.map(addressOf) as [number, number, number]
        return { ...p, ...strides, a, b, c }
      }),
    )
    for (const { p, data, strides, tensors } of made) {
      const { m, n, k, transposeA, transposeB, add } = p
      const { lda, ldb, ldc } = strides
      const [a, b, c] = data
      const got = tensors[2]!.dataSync()
      let worst = 0
      for (let i = 0; i < m; i++)
        for (let j = 0; j < ldc; j++) {
          const start = c[i * ldc + j]!
          let sum = add || j >= n ? start : 0
          if (j < n)
            for (let q = 0; q < k; q++)
              sum += a[transposeA ? q * lda + i : i * lda + q]! * b[transposeB ? j * ldb + q : q * ldb + j]!
          const gap = Math.abs(got[i * ldc + j]! - sum)
          worst = Math.max(worst, Number.isNaN(gap) ? Infinity : gap)
        }
      expect(worst).toBeLessThan(2e-6 * Math.sqrt(k) + 1e-6)
      for (const t of tensors) t.dispose()
    }
  }

  it('follow the definition, dense or parts of wider matrices, added or not', () => {
    const before = memory().numTensors
    fc.assert(
      fc.property(part, (p) => check([p])),
      { numRuns: 40, seed: 3 },
    )
    expect(memory().numTensors).toBe(before)
  })

  it('come many at once', () => {
    fc.assert(fc.property(fc.array(part, { minLength: 2, maxLength: 5 }), check), { numRuns: 8, seed: 4 })
  })

  it('of one row or column are exact too', () => {
    for (const transposeB of [false, true])
      for (const add of [false, true])
        for (const [m, n, k] of [
          [1, 3000, 400],
          [3000, 1, 400],
          [5, 3001, 70],
          [8, 1030, 129],
        ] as const)
          check([{ m, n, k, transposeA: false, transposeB, add, wider: [0, 0, 0] }])
  })

  it('are the same from run to run, and go on after the heap has grown', () => {
    const [x, y] = [tensor(fill(300 * 300, 1), [300, 300]), tensor(fill(300 * 300, 2), [300, 300])]
    const product = (): Float32Array => tidy(() => matMul(x, y, false, true).dataSync() as Float32Array)
    const first = product()
    const grown: Tensor[] = []
    for (let i = 0; i < 3; i++) {
      grown.push(zeros([2 ** 23]))
      addressOf(grown[i]!)
      expect(product().every((value, j) => value === first[j])).toBe(true)
    }
    for (const t of [x, y, ...grown]) t.dispose()
    expect(poolOf(current()).threads).toBe(3)
    expect(isShared(heapBytes(0, 4).buffer)).toBe(true)
  })
})

describe('routines of a kernel', () => {
  it('are called once for each list of arguments, in any thread', () => {
    const bytes = btoa(String.fromCharCode(...assemble([mark])))
    const module = { simd: bytes, relaxed: bytes }
    const words = tensor(new Int32Array(300), [300], 'int32')
    const at = addressOf(words)
    inThreads(
      module,
      'mark',
      Array.from({ length: 300 }, (_, i) => [at + 4 * i, 50]),
    )
    const got = words.dataSync()
    expect(got.every((word) => (word & 255) === 1 && word >> 8 < threads())).toBe(true)
    routines(module)!['mark']!(at, 1, 0)
    expect(words.dataSync()[0]).toBe(got[0]! + 1)
    words.dispose()
  })
})
