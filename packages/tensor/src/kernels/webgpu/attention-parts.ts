import type { Attrs, Inputs } from '../attention.ts'
import type { Gpu } from './program.ts'

/** what the code of a shader depends on: head width, queries and keys held at a time */
export interface Form {
  readonly width: number
  readonly queries: number
  readonly keys: number
  readonly capped: boolean
  readonly biased: boolean
}

export const THREADS = 64
export const NONE = '-3.0e38'
export const uniforms = {
  heads: 'u32',
  sharing: 'u32', // query heads per key-value head
  length: 'u32',
  keys: 'u32',
  room: 'u32', // rows of a head in k and v
  causal: 'u32',
  window: 'u32',
  scale: 'f32',
  cap: 'f32',
  stepBias: 'vec4u',
} as const

const TILES: [queries: number, keys: number][] = [
  [16, 32],
  [16, 16],
  [8, 16],
  [8, 8],
  [4, 8],
  [4, 4],
]

/** the largest tiles whose shared arrays fit in the workgroup's memory */
export const formOf = (gpu: Gpu, { q, bias }: Inputs, attrs: Attrs, floats: (f: Form) => number): Form | undefined => {
  const width = q.shape[3]!
  const room = gpu.device.limits.maxComputeWorkgroupStorageSize / 4
  const forms = TILES.map(([queries, keys]) => ({
    width,
    queries,
    keys,
    capped: attrs.softcap !== undefined && attrs.softcap !== 0,
    biased: Boolean(bias),
  }))
  return forms.find((f) => floats(f) <= room)
}

export const nameOf = (what: string, { width, queries, keys, capped, biased }: Form): string =>
  `attention ${what} ${[width, queries, keys, capped, biased]}`

/** score of query t and key j with its slope through the cap; NONE where t may not look */
export const scoring = ({ capped, biased }: Form): string => `
fn back(t: u32, j: u32) -> i32 { return i32(t) + i32(u.keys) - i32(u.length) - i32(j); }
fn seen(t: u32, j: u32) -> bool {
  if (t >= u.length || j >= u.keys) { return false; }
  let distance = back(t, j);
  return (u.causal == 0u || distance >= 0) && abs(distance) < i32(u.window);
}
fn score(product: f32, head: u32, t: u32, j: u32) -> vec2f {
  if (!seen(t, j)) { return vec2f(${NONE}, 0.0); }
  var s = product * u.scale;
  var slope = u.scale;
  ${capped ? 'let bent = tanh(clamp(s / u.cap, -12.0, 12.0)); s = bent * u.cap; slope *= 1.0 - bent * bent;' : ''}
  ${
    biased
      ? 's += bias[head / u.heads * u.stepBias.x + head % u.heads * u.stepBias.y + t * u.stepBias.z + j * u.stepBias.w];'
      : ''
  }
  return vec2f(s, slope);
}
fn group_of(head: u32) -> u32 { return head / u.sharing; }
// keys that queries from t0 can see, as [first, last)
fn firstKey(t0: u32) -> u32 { return u32(max(0, back(t0, 0u) - i32(u.window) + 1)); }
fn lastKey(t0: u32, count: u32) -> u32 {
  let reach = select(i32(u.window) - 1, 0, u.causal == 1u);
  return u32(clamp(min(back(t0 + count - 1u, 0u), 0x3fffffff) + min(reach, 0x3fffffff) + 1, 0, i32(u.keys)));
}`

/** rows [from, from + count) of a head's matrix into workgroup memory, zeros beyond the n that are there */
export const load = (
  to: string,
  buffer: string,
  head: string,
  from: string,
  count: number,
  n: string,
  width: number,
): string => `
  for (var e = local; e < ${count * width}u; e += ${THREADS}u) {
    let r = ${from} + e / ${width}u;
    ${to}[e] = 0.0;
    if (r < ${n}) { ${to}[e] = ${buffer}[(${head} * ${n === 'u.keys' ? 'u.room' : n} + r) * ${width}u + e % ${width}u]; }
  }`

/** the columns c of one row that a thread owns; `at` is their place in workgroup memory, where sums are kept */
export const own = (width: number, lanes: number, body: string): string => `
  for (var c = lane; c < ${width}u; c += ${lanes}u) {
    let at = row * ${width}u + c;
    ${body}
  }`
