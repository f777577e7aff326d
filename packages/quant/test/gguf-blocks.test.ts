import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { griddedBlocks } from '../src/gguf/blocks/gridded.ts'
import { blockOf, blocks, loadGgufTypes, writable } from '../src/gguf/blocks/index.ts'
import { grids } from '../src/gguf/grids.ts'
import { type Block, bytesOfType, type GgmlType, ggmlType, ggmlTypes } from '../src/gguf/types.ts'
import { fixture } from './fixtures.ts'

await loadGgufTypes()
const file = await fixture('gguf')
const gridded = await fixture('gguf-grids')
const [x, importance] = [await file.floats('x'), await file.floats('importance')]
const WIDTH = 512
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

const quantized = (block: Block, columns?: Float32Array): Uint8Array => {
  const out = new Uint8Array(bytesOfType(block, x.length))
  for (let from = 0; from < x.length; from += block.size) {
    const row = from - (from % WIDTH)
    let sum = 0
    for (let i = row; i < row + WIDTH; i++) sum = Math.fround(sum + Math.fround(x[i]! * x[i]!))
    const more = columns && { columns, at: from - row, power: Math.fround(sum / WIDTH) }
    block.quantize!(x, from, out, (from / block.size) * block.bytes, more)
  }
  return out
}
const dequantized = (block: Block, bytes: Uint8Array): Float32Array => {
  const out = new Float32Array((bytes.length / block.bytes) * block.size)
  for (let i = 0; i < bytes.length / block.bytes; i++) block.dequantize(bytes, i * block.bytes, out, i * block.size)
  return out
}
const same = (got: Uint8Array, want: Uint8Array, { bytes }: Block): void => {
  for (let i = 0; i < want.length; i += bytes)
    expect(hex(got.subarray(i, i + bytes)), `block ${i / bytes}`).toBe(hex(want.subarray(i, i + bytes)))
  expect(got.length).toBe(want.length)
}

describe("ggml's blocks", () => {
  it.each(writable.filter((t) => t !== 'F32').map((t) => [t]))('%s: the bytes that ggml writes', async (type) => {
    const block = blockOf(type)
    same(quantized(block), (await file.read(type)).data, block)
  })
  it.each(writable.filter((t) => file.has(`${t}.importance`)).map((t) => [t]))(
    '%s: the bytes that ggml writes by an importance matrix',
    async (type) => {
      const block = blockOf(type)
      same(quantized(block, importance), (await file.read(`${type}.importance`)).data, block)
    },
  )
  it.each(
    [file, gridded].flatMap((file) =>
      [...blocks, ...griddedBlocks]
        .filter(({ type }) => file.has(`${type}.bytes`))
        .map((b) => [b.type, b, file] as const),
    ),
  )('%s: any bytes are the numbers that the gguf package reads', async (type, block, file) => {
    const { data } = await file.read(`${type}.bytes`)
    const want = await file.floats(`${type}.values`)
    // a zero's sign is of no account
    expect([...dequantized(block, data)].map((v) => v + 0)).toEqual([...want].map((v) => v + 0))
  })
  it.each(Object.entries(grids))('%s: its grid has the points of the format', async (name, { values }) => {
    // kept eight times as large, so that an eighth is a whole number
    const points = name === 'IQ1_S' ? values().map((v) => v / 8) : values()
    const { data } = await gridded.read(`${name}.grid`)
    expect(createHash('sha256').update(points).digest('hex')).toBe(hex(data))
  })
  it('what stands whole comes back whole', () => {
    const f32 = blockOf('F32')
    expect(dequantized(f32, quantized(f32))).toEqual(x)
    const eight = blockOf('Q8_1')
    const bytes = new Uint8Array(36)
    bytes.set([0, 0x3c, 99, 99, 1, 255, 128])
    expect([...dequantized(eight, bytes)].slice(0, 4)).toEqual([1, -1, -128, 0])
    const k = new Uint8Array(292)
    new DataView(k.buffer).setFloat32(0, 0.5, true)
    k.set([3, 254], 4)
    expect([...dequantized(blockOf('Q8_K'), k)].slice(0, 3)).toEqual([1.5, -1, 0])
  })
  it('NaN and what float16 cannot hold leave no NaN behind', () => {
    for (const { type, quantize, size, bytes, dequantize } of blocks) {
      if (!quantize || type === 'F32' || type === 'BF16') continue
      for (const value of [1e30, -1e30, 1e-30, 3e38]) {
        const [from, out, back] = [new Float32Array(size), new Uint8Array(bytes), new Float32Array(size)]
        for (let i = 0; i < size; i++) from[i] = value * (1 - (i % 5) / 4)
        quantize(from, 0, out, 0)
        dequantize(out, 0, back, 0)
        expect(back.every(Number.isFinite), `${type} of ${value}`).toBe(true)
      }
    }
  })
  it('are listed by name and number', () => {
    for (const block of [...blocks, ...griddedBlocks]) {
      expect(ggmlType(block.id)?.type).toBe(block.type)
      expect(ggmlTypes[block.type as GgmlType].bytes).toBe(block.bytes)
    }
    expect(ggmlType(4)).toBeUndefined()
    expect(() => blockOf('Q4_2')).toThrow(/"Q4_2" cannot be read here; known are F32, F16/)
    expect(() => bytesOfType(blockOf('Q4_K'), 300)).toThrow(/not whole blocks of 256/)
  })
})

// the first block of x, by the tables of the methods' cards
it.each([
  ['Q4_0', '4022e046acf258bd1379df358be046acf268'],
  ['Q4_1', 'ab2240aed0369bf257bd1369ce258ae0469cf258'],
  ['Q5_0', '401ea4a52d6dc07c38f3bf6b26e2ae5a15d18d49f4c0'],
  ['Q5_1', '741e40aea4a52d6db07b37e3af6a26d29d5905c18c48f4b0'],
  ['Q8_0', '4d1281df3d9af856b41270cd2b89e745a2005ebb1977d53390ee4caa0866c3217fdc'],
  ['IQ4_NL', 'ab12e035acf157ce1369df249be136adf258'],
  [
    'Q2_K',
    '22223344655588679978abbbcbedceff2cb1d66cb11b6d861b71c66cb1d66cb21b6d861b71c628b1da6cb61b6d861b711b7d861b71c62cb1db6c861b71c628b1d66cb51b6c861b71c66cb1da6cb51b6cd727012a',
  ],
  [
    'Q3_K',
    '86dc2bc6fd23d67923dc3986fc2bd6fda451fe045bae05fbae51fba459fe045b4827e2897823dd897722dd8877e29d785df6b79c2db68b5de1f7485d22b7882dfd6297c82d528bf8225688fd2e578b3de2c7787dd29bbc2d968b7de2d7787dd21d034937966ab300353af536c59f',
  ],
  [
    'Q4_K',
    'bc162b228890d8de888fd7df68ee78ffa0156bc1278cd3489e045ab0167bc2378de349ae056ab1267cd2389de459af15268ce248ad0469b0157bd1379cf348ae046ac0268bd2379df359be156ac1268c9df359be157ac1268ce248ad0459b0157bd1379ce348ae046ac0267bd2379df3156ac1268cd2489df459b0157bc1378ce348ae046ab0267bd2379de359ae156a',
  ],
  [
    'Q5_K',
    '8d121022888fd7de88d0d8e1770f95ff326c9936cc9366c9b36499324c9926cc9366c9336c99364c9b66cd9366c9336c702be6b36e29e6915c09c4803cf7c47f3af7a26d1ad5914d08c4804bf7b37e2b6e2ae5915d08c4803cf7b37f3bf6a26e19d5914d08c4704cf7b37f2ae6a25e193be7a36e2ae6925e19c5814c08b4703be7a36e2ad6925d19c5814cf8b47f3be71bd7824e0ab5713de9a4602ce8935f1bc6824e09b5713de9a4602cd7935f1ac6',
  ],
  [
    'Q6_K',
    'd258be38be24ae048b047af47ad05ad0ca40ea64ea84fb741e941ea82ec842c8bf35ad169c048cf26be069d147cf38be1a932c840d85ed76ff57d038b14aa22b67df58c139b22aa22b931c85fd76ee57ce5ad137b31a902c830f86ec78ff55d1c841da62eb63fc840d951ea63fb840c9d129b30b931c64fe86de67ff47d129b118b1c66cb11b6c861b71c61cb1c76cb22453f9248ef9138ef4538d2452f9248ed4a209d47e09a37e14a349d4ae09d77ec863be1463c9147ec923bec463bd146311ef1fe02fd1403eaeb69fa1736d807a400a',
  ],
] as const)('%s: the golden block', (type, want) => {
  const block = blockOf(type)
  expect(hex(quantized(block).subarray(0, block.bytes))).toBe(want)
})
