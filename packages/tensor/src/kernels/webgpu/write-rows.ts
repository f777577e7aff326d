import type { WriteRows } from '../write-rows.ts'
import { dispatch, fold, type Gpu, type Program, plainFloats } from './program.ts'

const THREADS = 64

/** `n` pairs in one dispatch: a thread moves one number of each */
const program = (n: number): Program => {
  const all = Array.from({ length: n }, (_, i) => i)
  return {
    name: `write rows ${n}`,
    writes: all.map((i) => `into${i}`),
    reads: all.map((i) => `x${i}`),
    uniforms: { size: 'u32', run: 'u32', step: 'u32', start: 'u32' },
    threads: THREADS,
    body: `
  let e = (group.y * groups.x + group.x) * ${THREADS}u + local;
  if (e >= u.size) { return; }
  let to = e / u.run * u.step + u.start + e % u.run;
  ${all.map((i) => `into${i}[to] = x${i}[e];`).join(' ')}`,
  }
}

export const writeRowsOnGpu = (gpu: Gpu, ...[pairs, at]: Parameters<WriteRows>): boolean => {
  const [first] = pairs
  if (!first || pairs.length > 2 || !plainFloats(gpu, ...pairs.flat())) return false
  const [{ shape: room }, { shape, size }] = first
  const [T, S] = shape.slice(-2) as [number, number]
  dispatch(gpu, program(pairs.length), {
    writes: pairs.map(([into]) => into),
    reads: pairs.map(([, x]) => x),
    uniforms: [size, T * S, room.at(-2)! * S, at * S],
    groups: fold(gpu, Math.ceil(size / THREADS)),
  })
  return true
}
