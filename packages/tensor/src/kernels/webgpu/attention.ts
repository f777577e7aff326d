import type { Tensor } from '@tensorflow/tfjs-core'
import type { Faster } from '../../kernel.ts'
import type { Attrs, Inputs } from '../attention.ts'
import { type Form, formOf, load, NONE, nameOf, own, scoring, THREADS, uniforms } from './attention-parts.ts'
import { type Call, dispatch, type Gpu, type Program, plainFloats, track } from './program.ts'

/** One pass over the keys: softmax with a running maximum  —  Milakov & Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135 */
const forward = (f: Form): Program => {
  const { width, queries, keys } = f
  const lanes = THREADS / queries
  return {
    name: nameOf('forward', f),
    writes: ['y', 'logs'],
    reads: ['q', 'k', 'v', ...(f.biased ? ['bias'] : [])],
    uniforms,
    threads: THREADS,
    head: `${scoring(f)}
var<workgroup> asked: array<f32, ${queries * width}>;
var<workgroup> tile: array<f32, ${keys * width}>;
var<workgroup> scores: array<f32, ${queries * keys}>;
var<workgroup> found: array<f32, ${queries * width}>;`,
    body: `
  let head = group.y;
  let shared_head = group_of(head);
  let t0 = group.x * ${queries}u;
  let row = local / ${lanes}u;
  let lane = local % ${lanes}u;
  ${load('asked', 'q', 'head', 't0', queries, 'u.length', width)}
  var top = ${NONE};
  var sum = 0.0;
  ${own(width, lanes, 'found[at] = 0.0;')}
  let last = lastKey(t0, ${queries}u);
  for (var j0 = firstKey(t0); j0 < last; j0 += ${keys}u) {
    ${load('tile', 'k', 'shared_head', 'j0', keys, 'u.keys', width)}
    workgroupBarrier();
    for (var e = local; e < ${queries * keys}u; e += ${THREADS}u) {
      let r = e / ${keys}u;
      let j = e % ${keys}u;
      var product = 0.0;
      for (var c = 0u; c < ${width}u; c++) { product += asked[r * ${width}u + c] * tile[j * ${width}u + c]; }
      scores[e] = score(product, head, t0 + r, j0 + j).x;
    }
    workgroupBarrier();
    ${load('tile', 'v', 'shared_head', 'j0', keys, 'u.keys', width)}
    var higher = top;
    for (var j = 0u; j < ${keys}u; j++) { higher = max(higher, scores[row * ${keys}u + j]); }
    workgroupBarrier();
    for (var j = lane; j < ${keys}u; j += ${lanes}u) {
      let s = scores[row * ${keys}u + j];
      scores[row * ${keys}u + j] = select(exp(s - higher), 0.0, s <= ${NONE});
    }
    workgroupBarrier();
    let shrink = exp(top - higher);
    top = higher;
    sum *= shrink;
    for (var j = 0u; j < ${keys}u; j++) { sum += scores[row * ${keys}u + j]; }
    ${own(
      width,
      lanes,
      `var s = found[at] * shrink;
      for (var j = 0u; j < ${keys}u; j++) { s += scores[row * ${keys}u + j] * tile[j * ${width}u + c]; }
      found[at] = s;`,
    )}
    workgroupBarrier();
  }
  let t = t0 + row;
  if (t < u.length) {
    ${own(width, lanes, `y[(head * u.length + t) * ${width}u + c] = found[at] / sum;`)}
    if (lane == 0u) { logs[head * u.length + t] = top + log(sum); }
  }`,
  }
}

/** p and ds of a tile of queries and keys, from the forward pass's log-sums and `along` = Σ dy·y */
const slopes = ({ width, queries, keys }: Form): string => `
    for (var e = local; e < ${queries * keys}u; e += ${THREADS}u) {
      let r = e / ${keys}u;
      let j = e % ${keys}u;
      var product = 0.0;
      var dp = 0.0;
      for (var c = 0u; c < ${width}u; c++) {
        product += asked[r * ${width}u + c] * key[j * ${width}u + c];
        dp += slope[r * ${width}u + c] * value[j * ${width}u + c];
      }
      let s = score(product, head, t0 + r, j0 + j);
      var p = 0.0;
      var ds = 0.0;
      if (s.x > ${NONE}) {
        p = exp(s.x - logs[head * u.length + t0 + r]);
        ds = p * (dp - along[head * u.length + t0 + r]) * s.y;
      }
      shares[e] = p;
      pulls[e] = ds;
    }`
const backwardHead = (f: Form): string => `${scoring(f)}
var<workgroup> asked: array<f32, ${f.queries * f.width}>;
var<workgroup> slope: array<f32, ${f.queries * f.width}>;
var<workgroup> key: array<f32, ${f.keys * f.width}>;
var<workgroup> value: array<f32, ${f.keys * f.width}>;
var<workgroup> shares: array<f32, ${f.queries * f.keys}>;
var<workgroup> pulls: array<f32, ${f.queries * f.keys}>;`

/** Σ dy·y of each query */
const alongs: Program = {
  name: 'attention along',
  writes: ['along'],
  reads: ['dy', 'y'],
  uniforms: { rows: 'u32', width: 'u32' },
  threads: THREADS,
  body: `
  let row = (group.y * groups.x + group.x) * ${THREADS}u + local;
  if (row >= u.rows) { return; }
  var sum = 0.0;
  for (var c = 0u; c < u.width; c++) { sum += dy[row * u.width + c] * y[row * u.width + c]; }
  along[row] = sum;`,
}

/** dq: a tile of queries meets the keys it sees */
const towardsQueries = (f: Form): Program => {
  const { width, queries, keys } = f
  const lanes = THREADS / queries
  return {
    name: nameOf('dq', f),
    writes: ['dq'],
    reads: ['q', 'k', 'v', 'dy', 'logs', 'along', ...(f.biased ? ['bias'] : [])],
    uniforms,
    threads: THREADS,
    head: `${backwardHead(f)}
var<workgroup> found: array<f32, ${queries * width}>;`,
    body: `
  let head = group.y;
  let shared_head = group_of(head);
  let t0 = group.x * ${queries}u;
  let row = local / ${lanes}u;
  let lane = local % ${lanes}u;
  ${load('asked', 'q', 'head', 't0', queries, 'u.length', width)}
  ${load('slope', 'dy', 'head', 't0', queries, 'u.length', width)}
  ${own(width, lanes, 'found[at] = 0.0;')}
  let last = lastKey(t0, ${queries}u);
  for (var j0 = firstKey(t0); j0 < last; j0 += ${keys}u) {
    ${load('key', 'k', 'shared_head', 'j0', keys, 'u.keys', width)}
    ${load('value', 'v', 'shared_head', 'j0', keys, 'u.keys', width)}
    workgroupBarrier();
    ${slopes(f)}
    workgroupBarrier();
    ${own(
      width,
      lanes,
      `var s = found[at];
      for (var j = 0u; j < ${keys}u; j++) { s += pulls[row * ${keys}u + j] * key[j * ${width}u + c]; }
      found[at] = s;`,
    )}
    workgroupBarrier();
  }
  if (t0 + row < u.length) {
    ${own(width, lanes, `dq[(head * u.length + t0 + row) * ${width}u + c] = found[at];`)}
  }`,
  }
}

/** dk and dv: a tile of keys meets the queries that see it, of every head that shares it */
const towardsKeys = (f: Form): Program => {
  const { width, queries, keys } = f
  const lanes = THREADS / keys
  return {
    name: nameOf('dk dv', f),
    writes: ['dk', 'dv'],
    reads: ['q', 'k', 'v', 'dy', 'logs', 'along', ...(f.biased ? ['bias'] : [])],
    uniforms,
    threads: THREADS,
    head: `${backwardHead(f)}
var<workgroup> forKey: array<f32, ${keys * width}>;
var<workgroup> forValue: array<f32, ${keys * width}>;`,
    body: `
  let shared_head = group.y;
  let j0 = group.x * ${keys}u;
  let row = local / ${lanes}u;
  let lane = local % ${lanes}u;
  ${load('key', 'k', 'shared_head', 'j0', keys, 'u.keys', width)}
  ${load('value', 'v', 'shared_head', 'j0', keys, 'u.keys', width)}
  ${own(width, lanes, 'forKey[at] = 0.0; forValue[at] = 0.0;')}
  for (var h = 0u; h < u.sharing; h++) {
    let head = shared_head * u.sharing + h;
    for (var t0 = 0u; t0 < u.length; t0 += ${queries}u) {
      if (firstKey(t0) >= j0 + ${keys}u || lastKey(t0, ${queries}u) <= j0) { continue; }
      ${load('asked', 'q', 'head', 't0', queries, 'u.length', width)}
      ${load('slope', 'dy', 'head', 't0', queries, 'u.length', width)}
      workgroupBarrier();
      ${slopes(f)}
      workgroupBarrier();
      ${own(
        width,
        lanes,
        `var forThis = vec2f(forKey[at], forValue[at]);
        for (var r = 0u; r < ${queries}u; r++) {
          forThis += vec2f(pulls[r * ${keys}u + row] * asked[r * ${width}u + c],
            shares[r * ${keys}u + row] * slope[r * ${width}u + c]);
        }
        forKey[at] = forThis.x;
        forValue[at] = forThis.y;`,
      )}
      workgroupBarrier();
    }
  }
  if (j0 + row < u.keys) {
    ${own(
      width,
      lanes,
      `let to = (shared_head * u.keys + j0 + row) * ${width}u + c; dk[to] = forKey[at]; dv[to] = forValue[at];`,
    )}
  }`,
  }
}

/** how far a step in each of [B, H, T, K] goes in the bias */
const stepsOf = (bias: Tensor | undefined): number[] => {
  if (!bias) return [0, 0, 0, 0]
  const shape = [...Array<number>(4 - bias.rank).fill(1), ...bias.shape]
  return shape.map((n, i) => (n === 1 ? 0 : shape.slice(i + 1).reduce((p, d) => p * d, 1)))
}

const keysOf = ({ k }: Inputs, { keys = k.shape[2]! }: Attrs): number => keys
const uniformsOf = (inputs: Inputs, attrs: Attrs): Call['uniforms'] => {
  const { q, k, bias } = inputs
  const { scale, causal, window, softcap } = attrs
  return [
    q.shape[1]!,
    q.shape[1]! / k.shape[1]!,
    q.shape[2]!,
    keysOf(inputs, attrs),
    k.shape[2]!,
    causal ? 1 : 0,
    Math.min(window ?? 0x3fffffff, 0x3fffffff),
    scale,
    softcap ?? 1,
    stepsOf(bias),
  ]
}

/** every query sees a key, or the plain way's uniform weights over hidden keys are wanted */
const fits = (gpu: Gpu, inputs: Inputs, attrs: Attrs): boolean => {
  const { q, k, v, bias } = inputs
  const { causal, window } = attrs
  return (
    plainFloats(gpu, q, k, v, bias) &&
    q.shape[3] === v.shape[3] &&
    (bias?.rank ?? 0) <= 4 &&
    (keysOf(inputs, attrs) >= q.shape[2]! || (!causal && window === undefined)) &&
    window !== 0 &&
    q.shape[0]! * q.shape[1]! <= gpu.device.limits.maxComputeWorkgroupsPerDimension
  )
}

const run = (inputs: Inputs, attrs: Attrs, gpu: Gpu): { y: Tensor; saved: { logs: Tensor } } | undefined => {
  if (!fits(gpu, inputs, attrs)) return undefined
  const { q, k, v, bias } = inputs
  const form = formOf(gpu, inputs, attrs, (f) => (2 * f.queries + f.keys) * f.width + f.queries * f.keys)
  if (!form) return undefined
  const [B, H, T] = q.shape as [number, number, number]
  const [y, logs] = dispatch(gpu, forward(form), {
    reads: bias ? [q, k, v, bias] : [q, k, v],
    writes: [q.shape, [B, H, T]],
    uniforms: uniformsOf(inputs, attrs),
    groups: [Math.ceil(T / form.queries), B * H],
  }).map(track) as [Tensor, Tensor]
  return { y, saved: { logs } }
}

export const attention: Faster<Inputs, Attrs> = {
  forward: (inputs, attrs, gpu: Gpu) => run(inputs, attrs, gpu)?.y,
  ahead: run as NonNullable<Faster<Inputs, Attrs>['ahead']>,
  gradient: ({ dy, saved, attrs, wants }, gpu: Gpu) => {
    const { q, k, v, bias, y, logs } = saved as unknown as Inputs & { y: Tensor; logs?: Tensor }
    const inputs = { q, k, v, bias }
    if (wants('bias') || !logs || !plainFloats(gpu, dy) || !fits(gpu, inputs, attrs)) return undefined
    const form = formOf(gpu, inputs, attrs, (f) => (2 * f.queries + 4 * f.keys) * f.width + 2 * f.queries * f.keys)
    if (!form) return undefined
    const [B, H, T, S] = q.shape as [number, number, number, number]
    const [, G, K] = k.shape as [number, number, number]
    const [along] = dispatch(gpu, alongs, {
      reads: [dy, y],
      writes: [[B, H, T]],
      uniforms: [B * H * T, S],
      groups: [Math.ceil((B * H * T) / THREADS)],
    }).map(track) as [Tensor]
    const reads = [q, k, v, dy, logs, along, ...(bias ? [bias] : [])]
    const shared = { reads, uniforms: uniformsOf(inputs, attrs) }
    const [dq] = wants('q')
      ? dispatch(gpu, towardsQueries(form), {
          ...shared,
          writes: [q.shape],
          groups: [Math.ceil(T / form.queries), B * H],
        }).map(track)
      : []
    const [dk, dv] =
      wants('k') || wants('v')
        ? dispatch(gpu, towardsKeys(form), {
            ...shared,
            writes: [k.shape, v.shape],
            groups: [Math.ceil(K / form.keys), B * G],
          }).map(track)
        : []
    return { ...(dq && { q: dq }), ...(dk && { k: dk }), ...(dv && { v: dv }) }
  },
}

/** over the keys that are there, read where they lie in a cache with room for more */
export const cachedAttention: Faster<Inputs, Attrs> = { forward: attention.forward! }
