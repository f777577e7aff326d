/** A WebAssembly assembler just large enough for our kernels: i32 parameters, i32 and v128 locals, one imported memory. */

export type Code = readonly (number | Code)[]

/** unsigned LEB128 */
const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)])
/** signed LEB128 */
const sleb = (n: number): number[] => (n >= -64 && n < 64 ? [n & 127] : [(n & 127) | 128, ...sleb(n >> 7)])
const vector = (items: readonly Code[]): Code => [leb(items.length), items]
const bytes = (code: Code): number[] => (code as readonly unknown[]).flat(Number.POSITIVE_INFINITY) as number[]
const name = (text: string): Code => vector([...new TextEncoder().encode(text)].map((byte) => [byte]))

const simd =
  (opcode: number) =>
  (...operands: Code[]): Code => [operands, 0xfd, leb(opcode)]
const plain =
  (opcode: number) =>
  (...operands: Code[]): Code => [operands, opcode]
/** memory operations name their natural alignment (a hint) and a constant byte offset */
const access =
  (opcode: Code, align: number) =>
  (address: Code, offset = 0): Code => [address, opcode, align, leb(offset)]
const write =
  (opcode: Code, align: number) =>
  (address: Code, value: Code, offset = 0): Code => [address, value, opcode, align, leb(offset)]
const lane =
  (opcode: number, align: number) =>
  (address: Code, value: Code, index: number, offset = 0): Code => [
    address,
    value,
    0xfd,
    opcode,
    align,
    leb(offset),
    index,
  ]

export const i32: {
  const(n: number): Code
  add(a: Code, b: Code): Code
  sub(a: Code, b: Code): Code
  mul(a: Code, b: Code): Code
  /** towards zero */
  div(a: Code, b: Code): Code
  and(a: Code, b: Code): Code
  or(a: Code, b: Code): Code
  eq(a: Code, b: Code): Code
  lt(a: Code, b: Code): Code
  le(a: Code, b: Code): Code
  ge(a: Code, b: Code): Code
  gt(a: Code, b: Code): Code
  not(a: Code): Code
  /** a where it is less than b, else b; both are evaluated twice */
  min(a: Code, b: Code): Code
  load(address: Code, offset?: number): Code
  store(address: Code, value: Code, offset?: number): Code
} = {
  const: (n) => [0x41, sleb(n)],
  add: plain(0x6a),
  sub: plain(0x6b),
  mul: plain(0x6c),
  div: plain(0x6d),
  and: plain(0x71),
  or: plain(0x72),
  eq: plain(0x46),
  lt: plain(0x48),
  gt: plain(0x4a),
  le: plain(0x4c),
  ge: plain(0x4e),
  not: plain(0x45),
  min: (a, b) => [a, b, [a, b, 0x48], 0x1b],
  load: access([0x28], 2),
  store: write([0x36], 2),
}

export const v128: {
  zero: Code
  load(address: Code, offset?: number): Code
  store(address: Code, value: Code, offset?: number): Code
  /** one float to all four lanes */
  splat(address: Code, offset?: number): Code
  /** one float, or two, and zeros */
  load1(address: Code, offset?: number): Code
  load2(address: Code, offset?: number): Code
  loadLane(address: Code, value: Code, index: number, offset?: number): Code
  store1(address: Code, value: Code, index: number, offset?: number): Code
  store2(address: Code, value: Code, index: number, offset?: number): Code
  add(a: Code, b: Code): Code
  /** lanes of a (0 to 3) and of b (4 to 7) */
  shuffle(a: Code, b: Code, lanes: readonly number[]): Code
} = {
  zero: [0xfd, 0x0c, ...new Array<number>(16).fill(0)],
  load: access([0xfd, 0x00], 2),
  store: write([0xfd, 0x0b], 2),
  splat: access([0xfd, 0x09], 2),
  load1: access([0xfd, 0x5c], 2),
  load2: access([0xfd, 0x5d], 2),
  loadLane: lane(0x56, 2),
  store1: lane(0x5a, 2),
  store2: lane(0x5b, 2),
  add: simd(0xe4),
  shuffle: (a, b, lanes) => [a, b, 0xfd, 0x0d, lanes.flatMap((l) => [4 * l, 4 * l + 1, 4 * l + 2, 4 * l + 3])],
}

/** a·b + c: fused (relaxed SIMD) where the engine has it, so sums may differ in the last bit from engine to engine */
export const multiplyAdd =
  (relaxed: boolean) =>
  (a: Code, b: Code, c: Code): Code =>
    relaxed ? simd(0x105)(a, b, c) : v128.add(c, simd(0xe6)(a, b))

export const when = (condition: Code, then: Code, otherwise?: Code): Code =>
  otherwise === undefined ? [condition, 0x04, 0x40, then, 0x0b] : [condition, 0x04, 0x40, then, 0x05, otherwise, 0x0b]
/** body at least once, again while the condition holds */
export const repeat = (body: Code, condition: Code): Code => [0x03, 0x40, body, condition, 0x0d, 0, 0x0b]
/** body while the condition holds */
export const loop = (condition: Code, body: Code): Code => when(condition, repeat(body, condition))

export interface Local {
  readonly get: Code
  set(value: Code): Code
}
/** Variables of one function by name, made when first asked for. */
export interface Scope {
  int(name: string): Local
  vec(name: string): Local
  /** another routine of the module */
  call(name: string, ...values: Code[]): Code
}
export interface Routine {
  readonly name: string
  /** all i32, none returned */
  readonly parameters: readonly string[]
  body(scope: Scope): Code
}

const compile = ({ parameters, body }: Routine, indexOf: (name: string) => number): Code => {
  const ints = new Map(parameters.map((parameter, index) => [parameter, index]))
  const vectors = new Map<string, number>()
  // v128 locals come last, but their number is known only at the end: a marker array is filled in afterwards
  const markers: { index: number[]; slot: number }[] = []
  const slot = (map: Map<string, number>, key: string): number => {
    const known = map.get(key) ?? map.size
    map.set(key, known)
    return known
  }
  const local = (index: Code): Local => ({ get: [0x20, index], set: (value) => [value, 0x21, index] })
  const code = body({
    int: (key) => local(leb(slot(ints, key))),
    vec: (key) => {
      const index: number[] = []
      markers.push({ index, slot: slot(vectors, key) })
      return local(index)
    },
    call: (name, ...values) => [values, 0x10, leb(indexOf(name))],
  })
  for (const marker of markers) marker.index.push(...leb(ints.size + marker.slot))
  const locals = vector([
    [leb(ints.size - parameters.length), 0x7f],
    [leb(vectors.size), 0x7b],
  ])
  const content = bytes([locals, code, 0x0b])
  return [leb(content.length), content]
}

const section = (id: number, items: readonly Code[]): Code => {
  const content = bytes(vector(items))
  return [id, leb(content.length), content]
}

/** Bytes of a module that exports the routines and imports its memory as `env.memory`. */
export const assemble = (routines: readonly Routine[]): Uint8Array<ArrayBuffer> => {
  const indexOf = (wanted: string): number => routines.findIndex((routine) => routine.name === wanted)
  return new Uint8Array(
    bytes([
      [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
      section(
        1,
        routines.map(({ parameters }) => [0x60, vector(parameters.map(() => [0x7f])), 0]),
      ),
      section(2, [[name('env'), name('memory'), 0x02, 0x00, 0]]),
      section(
        3,
        routines.map((_, index) => leb(index)),
      ),
      section(
        7,
        routines.map((routine, index) => [name(routine.name), 0x00, leb(index)]),
      ),
      section(
        10,
        routines.map((routine) => compile(routine, indexOf)),
      ),
    ]),
  )
}
