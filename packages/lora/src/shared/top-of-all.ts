/** The best numbers of many arrays, the best first. */
export interface Top {
  /** array, place in it, and value of each */
  readonly from: Int32Array
  readonly flat: Int32Array
  readonly value: Float32Array
}

/**
 * The `most` largest of all numbers of n arrays, none below zero, which are read one at a time and twice: a count of their
 * leading bits tells what to keep, so that no more than that and one array is held.
 */
export const topOfAll = (read: (i: number) => ArrayLike<number>, n: number, most: number): Top => {
  const number = new Float32Array(1)
  const bits = new Uint32Array(number.buffer)
  const bin = (v: number): number => {
    number[0] = v
    return bits[0]! >>> 16
  }
  const counts = new Float64Array(2 ** 16)
  for (let i = 0; i < n; i++) {
    const values = read(i)
    for (let j = 0; j < values.length; j++) counts[bin(values[j]!)]!++
  }
  let least = counts.length
  for (let above = 0; least > 0 && above < most; ) above += counts[--least]!
  const size = counts.subarray(least).reduce((a, b) => a + b, 0)
  const [from, flat, value] = [new Int32Array(size), new Int32Array(size), new Float32Array(size)]
  let k = 0
  for (let i = 0; i < n; i++) {
    const values = read(i)
    for (let j = 0; j < values.length; j++) {
      if (bin(values[j]!) < least) continue
      from[k] = i
      flat[k] = j
      value[k++] = values[j]!
    }
  }
  // of equal ones the first
  const order = Uint32Array.from({ length: size }, (_, i) => i)
    .sort((a, b) => value[b]! - value[a]! || a - b)
    .subarray(0, most)
  const take = <T extends Int32Array | Float32Array>(made: T, all: T): T => {
    order.forEach((at, i) => {
      made[i] = all[at]!
    })
    return made
  }
  const m = order.length
  return {
    from: take(new Int32Array(m), from),
    flat: take(new Int32Array(m), flat),
    value: take(new Float32Array(m), value),
  }
}
