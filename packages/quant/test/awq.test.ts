import { attach, loadNetwork, namesOf, saveNetwork } from '@weftjs/model'
import type { Codec, Config, Network, Seen, Statistic, Tensor, Tensor2D } from '@weftjs/spec'
import { abs, cpu, div, matMul, mean, rng, tensor, transpose, wasm } from '@weftjs/tensor'
import {
  blobFolder,
  blobSink,
  type Checkpoint,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  type TensorSource,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { dense, packed } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { awq } from '../src/awq.ts'
import { format, fromAwq, toAwq } from '../src/formats/awq.ts'
import { fromGemm, toGemm } from '../src/formats/awq-pack.ts'
import { bitsPerWeight, nf4, quantize } from '../src/index.ts'
import { awqScale } from '../src/solve/awq.ts'
import { clipLimits } from '../src/solve/awq-clip.ts'
import { besideLibrary, bytesOf, floats } from './fixtures.ts'

const SHAPE = [64, 128] as const
const configOf = (group: number, more: Config = {}): Config => ({
  quantization_config: { quant_method: 'awq', bits: 4, group_size: group, zero_point: true, version: 'gemm', ...more },
})
const opened = async (tensors: readonly TensorSource[]): Promise<Checkpoint> => {
  const bytes: Record<string, TensorBytes> = {}
  for (const t of tensors) bytes[t.name] = { dtype: t.dtype, shape: t.shape, data: await bytesOf(t) }
  return openSafetensors(fromBytes(toSafetensors(bytes), 'made'))
}
const everything = async (file: Checkpoint): Promise<Record<string, TensorBytes>> =>
  Object.fromEntries(await Promise.all(file.names.map(async (n) => [n, await file.read(n)] as const)))

/** statistics of the rows of x */
const statisticsOf = (x: Tensor): Seen => ({
  rows: x.shape[0]!,
  batches: 1,
  get: (s: Statistic) => (s === 'magnitude' ? mean(abs(x), 0) : div(matMul(transpose(x), x), x.shape[0]!)),
})

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('awq on %s, beside AutoAWQ', (_, backend) => {
  let file: Checkpoint
  let expected: Checkpoint
  let w: Tensor2D
  beforeAll(async () => {
    await backend()
    ;({ file, expected, w } = await besideLibrary('awq'))
  })

  it.each([32, 64])('groups of %i: the same codes, zeros and scales, byte for byte', async (group) => {
    for (const t of toAwq(`gemm${group}.weight`, packed(awq({ group }) as Codec, w))) {
      const { dtype, shape } = file.entry(t.name)
      expect([t.name, t.dtype, t.shape]).toEqual([t.name, dtype, shape])
      expect((await bytesOf(t)).equals(Buffer.from((await file.read(t.name)).data)), t.name).toBe(true)
    }
  })

  it.each([32, 64])('groups of %i: layers in GEMM and in GEMV decode to the same numbers', async (group) => {
    const gemm = (await fromAwq(file, `gemm${group}.weight`, SHAPE, configOf(group)))!
    const gemv = (await fromAwq(file, `gemv${group}.weight`, SHAPE, configOf(group, { version: 'GEMV' })))!
    const want = await expected.floats(`gemm${group}`)
    expect(gemm.dense().dataSync()).toEqual(want)
    expect(gemv.dense().dataSync()).toEqual(want)
  })

  it('clips where it does', async () => {
    const x = await floats(expected, 'x')
    const limits = clipLimits(w, statisticsOf(x).get('moment'), 64).dataSync()
    const want = await expected.floats('clip')
    const off = [...limits].filter((v, i) => Math.abs(v - want[i]!) > 1e-6)
    expect(off).toEqual([])
    expect(
      new Set(
        [...want].map((v, i) =>
          (
            v /
            Math.max(
              ...w
                .dataSync()
                .slice(64 * i, 64 * i + 64)
                .map(Math.abs),
            )
          ).toFixed(2),
        ),
      ).size,
    ).toBeGreaterThan(3)
  })

  it.each([
    ['plain', false],
    ['duo', true],
  ])('finds the same scales (%s)', async (name, duo) => {
    const x = await floats(expected, 'x')
    // rows of ones before show by what they were divided
    const network: Network<object> = {
      config: {
        layers: 1,
        heads: 1,
        kvHeads: 1,
        headWidth: 1,
        normOffset: 0,
        placement: 'pre',
        activation: 'silu',
        gated: true,
      },
      weights: {
        'blocks.0.mlp.up': dense(tensor(new Float32Array(128 * 2).fill(1), [128, 2]) as Tensor2D),
        'blocks.0.mlp.down': dense(w),
      },
      vectors: {},
    }
    const see = async () => ({ 'blocks.0.mlp.down': statisticsOf(x) })
    const options = { at: '**.down', duo, codec: awq({ group: 64, dtype: 'F32' }) }
    const { network: found, scaled } = await awqScale(network, see, options)
    expect(scaled[0]).toMatchObject({ names: ['blocks.0.mlp.down'], into: 'blocks.0.mlp.up' })
    expect(scaled[0]!.loss).toBeLessThan(scaled[0]!.plain)
    const want = await expected.floats(name)
    const up = found.weights['blocks.0.mlp.up']!.dense().dataSync()
    for (const [i, s] of want.entries()) expect(Math.abs(up[2 * i]! * s - 1)).toBeLessThan(1e-4)
  })
})

describe('awq', () => {
  beforeAll(async () => {
    await cpu()
  })
  const folder = new URL('../../testkit/fixtures/models/llama-awq', import.meta.url).pathname

  it('counts its bits: codes, zeros of 4 bits and scales of 16', () => {
    expect(bitsPerWeight(awq(), [256, 256])).toBe(4 + 20 / 128)
    expect(bitsPerWeight(awq({ group: 32, dtype: 'F32' }), [256, 256])).toBe(4 + 36 / 32)
    expect(bitsPerWeight(awq({ group: -1 }), [256, 512])).toBe(4 + 20 / 512)
  })

  it('packs outputs 0 2 4 6 1 3 5 7 from the lowest nibble on', () => {
    // code of output o is o: eight rows of one number, two to a byte
    const stream = Uint8Array.of(0x10, 0x32, 0x54, 0x76)
    const [word] = toGemm(stream, { out: 8, width: 1 })
    expect(word! >>> 0).toBe(0x75316420)
    expect(new Uint8Array(fromGemm(Int32Array.of(0x75316420), { out: 8, width: 1 }).buffer)).toEqual(stream)
  })

  it('a checkpoint loads, gives the logits of its definition, and is written as it was read', async () => {
    const network = await loadNetwork(nodeFolder(folder), { packed: format.read })
    expect(network.weights['blocks.0.attn.q']!.format).toBe('awq')
    const ref = await openSafetensors(await fromFile(`${folder}/reference.safetensors`))
    const ids = tensor(await ref.ints('input_ids'), ref.entry('input_ids').shape as number[], 'int32')
    const { logits } = attach(network, [], rng(0)).forward({}, { ids })
    const want = await ref.floats('logits')
    for (const [i, v] of logits.dataSync().entries()) expect(Math.abs(v - want[i]!)).toBeLessThan(1e-4)
    const files = new Map<string, Blob>()
    const sinkFor = (file: string) => {
      const sink = blobSink()
      const close = async (): Promise<void> => {
        await sink.close()
        files.set(file, sink.blob())
      }
      return { ...sink, close }
    }
    await saveNetwork(network, sinkFor, { packed: await format.writer(network, namesOf(network.config)) })
    const before = await everything(await openSafetensors(await fromFile(`${folder}/model.safetensors`)))
    const after = await everything(await openSafetensors(await blobFolder(files).open('model.safetensors')))
    expect(Object.keys(after).sort()).toEqual(Object.keys(before).sort())
    for (const [key, { data }] of Object.entries(before))
      expect(Buffer.from(after[key]!.data).equals(Buffer.from(data)), key).toBe(true)
  })

  it('names in its config what stays dense, and refuses what it has no place for', async () => {
    const plain = await loadNetwork(nodeFolder(folder.replace('-awq', '3')))
    const codec = awq({ group: 16 }) as Codec
    // 3 heads of 4 numbers are no multiple of 8 outputs
    const small = await quantize(plain, codec, { skip: '**.{k,v}' })
    const { config, tensors } = await format.writer(small, namesOf(plain.config))
    expect(config['quantization_config']).toMatchObject({
      quant_method: 'awq',
      bits: 4,
      group_size: 16,
      version: 'gemm',
    })
    const { modules_to_not_convert: skip } = config['quantization_config'] as { modules_to_not_convert: string[] }
    expect(skip).toContain('model.layers.1.self_attn.k_proj')
    expect(skip).not.toContain('model.layers.1.self_attn.q_proj')
    expect(tensors('x.weight', small.weights['blocks.0.attn.k']!)).toBeUndefined()
    const both = await quantize(plain, (name) => awq({ group: name.endsWith('q') ? 48 : 16 }), { skip: '**.{k,v}' })
    await expect(format.writer(both, namesOf(plain.config))).rejects.toThrow(/one group size, and there are/)
    const odd = packed(codec, rng(1).normal([12, 16]) as Tensor2D)
    expect(() => toAwq('a.weight', odd)).toThrow('a.weight: AWQ packs 8 outputs to a word, and there are 12')
    expect(() => toAwq('a.weight', packed(nf4() as Codec, rng(1).normal([8, 64]) as Tensor2D))).toThrow("not 'awq'")
    const gpt2 = await loadNetwork(nodeFolder(folder.replace('llama-awq', 'gpt2')))
    const packedGpt2 = await quantize(gpt2, awq({ group: -1 }))
    await expect(format.writer(packedGpt2, namesOf(gpt2.config))).rejects.toThrow(/keeps transposed/)
  })

  it('refuses options and shapes that cannot be', () => {
    expect(() => awq({ bits: 3 as 4 })).toThrow('awq: bits must be 4, found 3')
    expect(() => awq({ group: 0 })).toThrow('awq: group must be')
    expect(() => awq().encode(rng(1).normal([8, 96]) as Tensor2D)).toThrow('rows of 96 numbers')
    const seen = statisticsOf(rng(1).normal([5, 64]))
    expect(() => awq({ clip: true, group: 64 }).encode(rng(1).normal([8, 128]) as Tensor2D, seen)).toThrow(
      'E[x·xᵀ] is [64,64] where the matrix reads 128 numbers',
    )
  })

  it('a damaged layer is refused with its name', async () => {
    const layer = toAwq('a.weight', packed(awq({ group: 32 }) as Codec, rng(1).normal([16, 64]) as Tensor2D))
    const reading = async (change: Readonly<Record<string, Partial<TensorSource> | null>>, config = configOf(32)) => {
      const changed = layer.flatMap((t) => (change[t.name] === null ? [] : [{ ...t, ...change[t.name] }]))
      return fromAwq(await opened(changed as TensorSource[]), 'a.weight', [16, 64], config)
    }
    const of = (shape: number[]): Partial<TensorSource> => ({
      shape,
      data: new Uint8Array(4 * shape.reduce((n, d) => n * d, 1)),
    })
    expect((await reading({}))!.format).toBe('awq')
    expect(await reading({}, {})).toBeUndefined()
    await expect(reading({ 'a.qzeros': null })).rejects.toThrow(/a\.qweight.*has no 'qzeros'/)
    await expect(reading({ 'a.qweight': of([64, 3]) })).rejects.toThrow(/a\.qweight.*I32 \[64,3\].*I32 \[64,2\]/)
    await expect(reading({}, configOf(64))).rejects.toThrow(/a\.qzeros.*\[2,2\].*\[1,2\]/)
    await expect(reading({}, configOf(48))).rejects.toThrow(/rows of 64 numbers/)
    await expect(reading({}, configOf(32, { bits: 8 }))).rejects.toThrow(/bits must be 4/)
    await expect(reading({}, configOf(32, { version: 'marlin' }))).rejects.toThrow(/version 'marlin'/)
    await expect(reading({}, configOf(32, { zero_point: false }))).rejects.toThrow(/no zero points/)
    await expect(reading({}, configOf('x' as unknown as number))).rejects.toThrow(/group must be/)
  })

  it('any words decode to finite numbers where the scales are, or are refused', () =>
    fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 256, maxLength: 256 }), fc.boolean(), async (bytes, gemv) => {
        const words = (shape: number[]): TensorSource => ({
          ...{ name: 'a', dtype: 'I32', shape },
          data: Uint8Array.from({ length: 4 * shape[0]! * shape[1]! }, (_, i) => bytes[(7 * i) % 256]!),
        })
        const parts = gemv
          ? [
              [8, 4],
              [8, 4],
              [8, 32],
            ]
          : [
              [32, 1],
              [1, 1],
              [1, 8],
            ]
        const named = (['qweight', 'qzeros', 'scales'] as const).map((key, i) => ({
          ...words(parts[i]!),
          ...(key === 'scales' && {
            dtype: 'F32' as const,
            data: new Uint8Array(Float32Array.from({ length: parts[i]![0]! * parts[i]![1]! }, () => 0.5).buffer),
          }),
          name: `a.${key}`,
        }))
        const config = configOf(32, { version: gemv ? 'gemv' : 'gemm' })
        const weight = (await fromAwq(await opened(named), 'a.weight', [8, 32], config))!
        for (const v of weight.dense().dataSync()) expect(Math.abs(v)).toBeLessThanOrEqual(7.5)
      }),
      { numRuns: 50 },
    ))

  it('any matrix comes back from its file as it went in', () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom(8, 16, -1),
        fc.constantFrom<'F32' | 'F16' | 'BF16'>('F32', 'F16', 'BF16'),
        async (a, b, group, dtype) => {
          const shape: [number, number] = [8 * a, 16 * b]
          const weight = packed(awq({ group, dtype }) as Codec, rng(a).normal(shape, 0.1) as Tensor2D)
          const back = (await fromAwq(await opened(toAwq('a.weight', weight)), 'a.weight', shape, configOf(group)))!
          expect(back.dense().dataSync()).toEqual(weight.dense().dataSync())
        },
      ),
      { numRuns: 40 },
    ))
})
