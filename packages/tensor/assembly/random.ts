/**
 * Numbers of a Philox 4x32-10 stream, word by word as src/rng.ts draws them, and what is made of them, by the same steps
 * in float64: the same bits. `block` counts blocks of four words; n numbers from its first word on go to y.
 */

function unit(word: u32): f64 {
  return (<f64>word + 0.5) / 4294967296.0
}

/** ln x by the steps of src/rng.ts */
function ln(x: f64): f64 {
  let e = 0
  while (x < 0.70710678118654752) {
    x *= 2
    e--
  }
  while (x > 1.4142135623730951) {
    x /= 2
    e++
  }
  const t = (x - 1) / (x + 1)
  const t2 = t * t
  let s: f64 = 0
  for (let k = 23; k >= 1; k -= 2) s = s * t2 + 1 / <f64>k
  return 2 * t * s + <f64>e * 0.6931471805599453
}

/** Wichura's AS 241, PPND16 */
function quantile(p: f64): f64 {
  const q = p - 0.5
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q
    let n: f64 = 2509.0809287301226727
    n = n * r + 33430.575583588128105
    n = n * r + 67265.770927008700853
    n = n * r + 45921.953931549871457
    n = n * r + 13731.693765509461125
    n = n * r + 1971.5909503065514427
    n = n * r + 133.14166789178437745
    n = n * r + 3.387132872796366608
    let d: f64 = 5226.495278852545925
    d = d * r + 28729.085735721942674
    d = d * r + 39307.89580009271061
    d = d * r + 21213.794301586595867
    d = d * r + 5394.1960214247511077
    d = d * r + 687.1870074920579083
    d = d * r + 42.313330701600911252
    d = d * r + 1
    return q * (n / d)
  }
  let r = Math.sqrt(-ln(q < 0 ? p : 1 - p))
  let n: f64
  let d: f64
  if (r <= 5) {
    r -= 1.6
    n = 7.7454501427834140764e-4
    n = n * r + 0.0227238449892691845833
    n = n * r + 0.24178072517745061177
    n = n * r + 1.27045825245236838258
    n = n * r + 3.64784832476320460504
    n = n * r + 5.7694972214606914055
    n = n * r + 4.6303378461565452959
    n = n * r + 1.42343711074968357734
    d = 1.05075007164441684324e-9
    d = d * r + 5.475938084995344946e-4
    d = d * r + 0.0151986665636164571966
    d = d * r + 0.14810397642748007459
    d = d * r + 0.68976733498510000455
    d = d * r + 1.6763848301838038494
    d = d * r + 2.05319162663775882187
    d = d * r + 1
  } else {
    r -= 5
    n = 2.01033439929228813265e-7
    n = n * r + 2.71155556874348757815e-5
    n = n * r + 0.0012426609473880784386
    n = n * r + 0.026532189526576123093
    n = n * r + 0.29656057182850489123
    n = n * r + 1.7848265399172913358
    n = n * r + 5.4637849111641143699
    n = n * r + 6.6579046435011037772
    d = 2.04426310338993978564e-15
    d = d * r + 1.4215117583164458887e-7
    d = d * r + 1.8463183175100546818e-5
    d = d * r + 7.868691311456132591e-4
    d = d * r + 0.0148753612908506148525
    d = d * r + 0.13692988092273580531
    d = d * r + 0.59983220655588793769
    d = d * r + 1
  }
  const x = n / d
  return q < 0 ? -x : x
}

function made(word: u32, kind: i32, a: f64, b: f64): f32 {
  if (kind === 0) return <f32>(a * quantile(unit(word)))
  if (kind === 1) return <f32>(a + (b - a) * (<f64>(word >> 8) / 16777216.0))
  return unit(word) < a ? 1 : 0
}

/** kind 0: normal of deviation a; 1: uniform in [a, b); 2: 1 with chance a, else 0 */
export function draw(kind: i32, a: f64, b: f64, key0: u32, key1: u32, high: u32, low: f64, n: i32, y: usize): void {
  let block = <u64>low
  for (let i = 0; i < n; i += 4, block++, y += 16) {
    let c0 = <u32>block
    let c1 = <u32>(block >> 32)
    let c2 = high
    let c3: u32 = 0
    let k0 = key0
    let k1 = key1
    for (let round = 0; round < 10; round++) {
      const p0 = <u64>0xd2511f53 * <u64>c0
      const p1 = <u64>0xcd9e8d57 * <u64>c2
      c0 = <u32>(p1 >> 32) ^ c1 ^ k0
      c1 = <u32>p1
      c2 = <u32>(p0 >> 32) ^ c3 ^ k1
      c3 = <u32>p0
      k0 += 0x9e3779b9
      k1 += 0xbb67ae85
    }
    store<f32>(y, made(c0, kind, a, b))
    if (i + 1 < n) store<f32>(y, made(c1, kind, a, b), 4)
    if (i + 2 < n) store<f32>(y, made(c2, kind, a, b), 8)
    if (i + 3 < n) store<f32>(y, made(c3, kind, a, b), 12)
  }
}
