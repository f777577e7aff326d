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

/** code i of a stream of codes without a gap, lowest bit first: one that lies in two words is put together */
export const bitsAt = (buffer: string, bits: number, i: string): string => {
  const bit = `${i} % 32u * ${bits}u`
  const at = `${i} / 32u * ${bits}u + ${bit} / 32u`
  const low = `(${buffer}[${at}] >> (${bit} % 32u))`
  if (32 % bits === 0) return `(${low} & ${2 ** bits - 1}u)`
  // a shift by 32 is one by 0 in WGSL: what is not needed is not added
  const high = `select(0u, ${buffer}[${at} + 1u] << ((32u - ${bit} % 32u) % 32u), ${bit} % 32u > ${32 - bits}u)`
  return `((${low} | ${high}) & ${2 ** bits - 1}u)`
}

/** the same where `bits` is a uniform: `code` of the number `i`, of the words `Q` */
export const WGSL_CODE = `
  let bits = uniforms.bits;
  let at = i / 32 * bits + i % 32 * bits / 32;
  let shift = u32(i % 32 * bits % 32);
  var w = bitcast<u32>(Q[at]) >> shift;
  if (i32(shift) + bits > 32) { w |= bitcast<u32>(Q[at + 1]) << (32u - shift); }
  let code = extractBits(w, 0u, u32(bits));`
