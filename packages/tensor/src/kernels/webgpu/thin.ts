import type { Program } from './program.ts'
import { decodingOf, entry, type Form, nameOf, range, readsOf, uniforms } from './tiled.ts'

const THREADS = 64

/** threads of one column, where b lies along k: no more than lie in one subgroup, if subgroups are to add them up */
const alongOf = (subgroup: number): number => (subgroup > 1 ? Math.min(16, subgroup) : 16)

/** columns that a workgroup of the thin product makes */
export const columnsOf = ({ transposeB, wide }: Form, subgroup = 1): number =>
  transposeB ? THREADS / alongOf(subgroup) : wide.b ? 64 : 16

/**
 * At most four rows, as in generation, where reading b is all the work: each column (each four where they are
 * neighbours) is summed by several threads that read side by side. Where b lies along k these are threads of one
 * subgroup, if the device has subgroups of at least `subgroup` threads: they exchange their sums without a barrier.
 */
export const thin = (form: Form, rows: number, subgroup = 1): Program => {
  const { transposeA, transposeB, wide, and, onto, bias, into } = form
  const columns = columnsOf(form, subgroup)
  const exchanged = transposeB && subgroup > 1
  const each = wide.b && !transposeB ? 4 : 1 // columns of one thread
  const lanes = (THREADS * each) / columns
  const step = wide.b && transposeB ? 4 : 1 // of k at once
  const type = each === 4 ? 'vec4f' : 'f32'
  const name = `thin ${rows}${exchanged ? ` in subgroups of ${lanes}` : ''}`
  const atA = (i: number): string => (transposeA ? `start.x + k * u.m + ${i}u` : `start.x + ${i}u * u.k + k`)
  const left = (i: number): string => (wide.a ? `a[(${atA(i)}) / 4u]` : `a[${atA(i)}]`)
  const atB = transposeB ? 'start.y + n * u.k + k' : 'start.y + k * u.n + n'
  const plain = wide.b ? `b[(${atB}) / 4u]` : `b[${atB}]`
  const right = form.decoding ? `${wide.b ? 'weightsAt' : 'weightAt'}(${atB})` : plain
  const { head, start } = decodingOf(form, THREADS)
  const atD = transposeB ? 'n * u.r + q' : 'q * u.n + n'
  const fromD = each === 4 ? `vec4f(${range(4).map((e) => `d[${atD} + ${e}u]`)})` : `d[${atD}]`
  const whole = (i: number): string =>
    [
      `s${i} * u.scale`,
      into && (each === 4 ? `y[(to + ${i}u * u.n) / 4u]` : `y[to + ${i}u * u.n]`),
      onto && (each === 4 ? `onto[(to + ${i}u * u.n) / 4u]` : `onto[to + ${i}u * u.n]`),
      bias && (each === 4 ? 'bias[n / 4u]' : 'bias[n]'),
    ]
      .filter(Boolean)
      .join(' + ')
  const all = (f: (i: number) => string): string => range(rows).map(f).join('\n  ')
  const inSubgroup = range(Math.log2(lanes))
    .map((d) => all((i) => `s${i} += subgroupShuffleXor(s${i}, ${lanes >> (d + 1)}u);`))
    .join('\n  ')
  const shared = `
  ${all((i) => `parts[${i * THREADS}u + local] = s${i};`)}
  workgroupBarrier();
  if (lane > 0u) { return; }
  for (var l = 1u; l < ${lanes}u; l++) {
    let at = local + l * ${transposeB ? 1 : columns / each}u;
    ${all((i) => `s${i} += parts[${i * THREADS}u + at];`)}
  }`
  return {
    name: nameOf(name, form),
    writes: [`y${each === 4 ? ': vec4f' : ''}`],
    reads: readsOf(form),
    uniforms,
    threads: THREADS,
    ...(exchanged && { enables: ['subgroups'] as const }),
    head: `${entry}${head}
${exchanged ? '' : `var<workgroup> parts: array<${type}, ${THREADS * rows}>;`}`,
    body: `
  ${start}
  let start = entry(group.z);
  let column = ${transposeB ? `local / ${lanes}u` : `local % ${columns / each}u`};
  let lane = ${transposeB ? `local % ${lanes}u` : `local / ${columns / each}u`};
  let n = group.x * ${columns}u + ${each}u * column;
  ${range(rows)
    .map((i) => `var s${i} = ${type}();`)
    .join('\n  ')}
  if (n < u.n) {
    for (var k = ${step}u * lane; k < u.k; k += ${step * lanes}u) {
      let w = ${right};
      ${range(rows)
        .map((i) => `s${i} += ${step === 4 ? `dot(w, ${left(i)})` : `w * ${left(i)}`};`)
        .join('\n      ')}
    }
  }
  ${exchanged ? inSubgroup : shared}
  if (lane == 0u && n < u.n) {
    let to = group.z * u.m * u.n + n;
    ${
      and
        ? `for (var q = 0u; q < u.r; q++) {
      let e = ${fromD};
      ${range(rows)
        .map((i) => `s${i} += e * c[${transposeA ? `q * u.m + ${i}u` : `${i}u * u.r + q`}];`)
        .join('\n      ')}
    }`
        : ''
    }
    ${range(rows)
      .map((i) => `y[${each === 4 ? `(to + ${i}u * u.n) / 4u` : `to + ${i}u * u.n`}] = ${whole(i)};`)
      .join('\n    ')}
  }`,
  }
}
