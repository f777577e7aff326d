/** Parts of shaders that decode. */

/** the bits of float32 numbers as constants of WGSL, exact */
const bits = (values: Float32Array): string =>
  Array.from(
    new Uint32Array(values.buffer, values.byteOffset, values.length),
    (u) => `bitcast<f32>(0x${u.toString(16)}u)`,
  ).join(', ')

interface WorkgroupTable {
  readonly head: string
  /** fills it, by so many threads */
  readonly start: (threads: number) => string
  /** tells tables apart */
  readonly key: string
}
const made = new WeakMap<Float32Array, WorkgroupTable>()

/** a table in workgroup memory; a table has one name */
export const workgroupTable = (name: string, values: Float32Array): WorkgroupTable => {
  const known = made.get(values)
  if (known) return known
  const all = bits(values)
  const table = {
    head: `
var<workgroup> ${name}: array<f32, ${values.length}>;
const ${name}Of = array<f32, ${values.length}>(${all});`,
    start: (threads: number) =>
      `for (var e = local; e < ${values.length}u; e += ${threads}u) { ${name}[e] = ${name}Of[e]; }`,
    key: values.length > 16 ? `${values.length}` : all,
  }
  made.set(values, table)
  return table
}

/** `weightsAt` where the four numbers may lie on both sides of a border */
export const FOUR_TIMES = `
fn weightsAt(i: u32) -> vec4f { return vec4f(weightAt(i), weightAt(i + 1u), weightAt(i + 2u), weightAt(i + 3u)); }`

/** byte i of a buffer of words */
export const byteAt = (buffer: string, i: string): string =>
  `extractBits(${buffer}[(${i}) / 4u], 8u * ((${i}) % 4u), 8u)`
