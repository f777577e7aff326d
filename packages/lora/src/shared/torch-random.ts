/** The draws of PyTorch's CPU generator, for methods whose fixed tensors PEFT makes from a seed: equal bit by bit. */
export interface TorchRandom {
  /** 32 bits */
  word(): number
  /** the next n words are passed over */
  skip(n: number): void
  /** n float32 numbers as `tensor.uniform_(low, high)` draws them, row by row */
  uniform(n: number, low: number, high: number): Float32Array
  /** the same for a bfloat16 tensor, as float32 numbers */
  uniform16(n: number, low: number, high: number): Float32Array
  /** the first k of `torch.randperm(n)` */
  permutation(n: number, k: number): Int32Array
}

const N = 624
const M = 397

/** MT19937  —  Matsumoto & Nishimura, ACM TOMACS 8 (1998) */
export const torchRandom = (seed: number): TorchRandom => {
  const state = new Uint32Array(N)
  state[0] = seed
  for (let i = 1; i < N; i++) {
    const before = state[i - 1]! ^ (state[i - 1]! >>> 30)
    state[i] = Math.imul(1812433253, before) + i
  }
  let at = N
  const turn = (): void => {
    for (let i = 0; i < N; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff)
      state[i] = state[(i + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    at = 0
  }
  const word = (): number => {
    if (at === N) turn()
    let y = state[at++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }
  const f = Math.fround
  return {
    word,
    skip: (n) => {
      for (let i = 0; i < n; i++) word()
    },
    uniform: (n, low, high) => {
      const [from, width] = [f(low), f(f(high) - f(low))]
      // 24 bits of each word; product and sum are rounded once, as by the processor's fused instruction
      return Float32Array.from({ length: n }, () => ((word() & 0xffffff) / 0x1000000) * width + from)
    },
    uniform16: (n, low, high) => {
      const [from, width] = [bfloat16(low), bfloat16(bfloat16(high) - bfloat16(low))]
      return Float32Array.from({ length: n }, () => bfloat16(f(f(((word() & 0xff) / 0x100) * width) + from)))
    },
    permutation: (n, k) => {
      // Fisher and Yates from the front, remembering only what has moved
      const moved = new Map<number, number>()
      const out = new Int32Array(Math.min(n, k))
      for (let i = 0; i < out.length; i++) {
        const j = i < n - 1 ? i + (word() % (n - i)) : i
        out[i] = moved.get(j) ?? j
        moved.set(j, moved.get(i) ?? i)
      }
      return out
    },
  }
}

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)
/** the nearest number with 8 bits of mantissa, ties to even */
export const bfloat16 = (x: number): number => {
  float[0] = x
  bits[0] = bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)
  bits[0] &= 0xffff0000
  return float[0]!
}
