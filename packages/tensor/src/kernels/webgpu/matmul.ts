import {
  backend,
  getKernel,
  registerKernel,
  reshape,
  type Tensor,
  type TensorInfo,
  unregisterKernel,
} from '@tensorflow/tfjs-core'
import type { DecodedOn, Decoding } from '../../decoded.ts'
import type { Product } from '../product.ts'
import { dispatch, fold, type Gpu, plainFloats, track } from './program.ts'
import { columnsOf, thin } from './thin.ts'
import { type Form, heightOf, sumParts, type Tile, threadsOf, tiled, widthOf } from './tiled.ts'

/**
 * The tilings, chosen by shape. A workgroup reads (height + width)·k numbers for height·width·k multiplications: large
 * tiles read less, small ones leave work for more of the GPU, and flat ones waste nothing on a rank of 8.
 */
export const TILES: Readonly<Record<'huge' | 'large' | 'square' | 'tall' | 'flat', Tile>> = {
  /** 128 × 128, by 256 threads */
  huge: { across: 16, down: 16, lanes: 1, rows: 8, columns: 8, depth: 8 },
  /** 64 × 64 */
  large: { across: 8, down: 8, lanes: 1, rows: 8, columns: 8, depth: 16 },
  /** 32 × 32 */
  square: { across: 8, down: 8, lanes: 1, rows: 4, columns: 4, depth: 16 },
  /** 32 × 8, k shared by four lanes */
  tall: { across: 2, down: 8, lanes: 4, rows: 4, columns: 4, depth: 32 },
  /** 8 × 32 */
  flat: { across: 8, down: 2, lanes: 4, rows: 4, columns: 4, depth: 32 },
}

/** rows that a product without tiles takes */
const THIN = 4
/** workgroups that fill a GPU, roughly */
const FULL = 64
/** the least of k that is worth a workgroup of its own */
const PART = 512

const tilesIn = (tile: Tile, m: number, n: number): number =>
  Math.ceil(m / heightOf(tile)) * Math.ceil(n / widthOf(tile))

/** a few cores: there is no GPU to fill, and every barrier is paid for */
const isSoftware = ({ device }: Gpu): boolean => device.adapterInfo?.isFallbackAdapter === true

const fits = ({ device: { limits } }: Gpu, tile: Tile): boolean =>
  threadsOf(tile) <= limits.maxComputeInvocationsPerWorkgroup &&
  4 * (heightOf(tile) + widthOf(tile) + 8) * tile.depth <= limits.maxComputeWorkgroupStorageSize

const tileFor = (gpu: Gpu, m: number, n: number, batch: number): Tile => {
  if (n <= 8) return TILES.tall
  if (m <= 8) return TILES.flat
  if (isSoftware(gpu)) return m > 32 && n > 32 ? TILES.large : TILES.square
  if (fits(gpu, TILES.huge) && batch * tilesIn(TILES.huge, m, n) >= FULL) return TILES.huge
  return batch * tilesIn(TILES.large, m, n) >= FULL / 2 ? TILES.large : TILES.square
}

/** a tiling, and the number of workgroups that share each tile's sum over k */
export interface Plan {
  readonly tile: Tile
  readonly parts: number
  /** threads that every subgroup has at the least; 1 where there are none */
  readonly subgroup: number
}

const planFor = (gpu: Gpu, m: number, n: number, k: number, batch: number): Plan => {
  const tile = tileFor(gpu, m, n, batch)
  const shares = isSoftware(gpu)
    ? 1
    : Math.min(16, Math.floor(k / PART), Math.floor(FULL / (batch * tilesIn(tile, m, n))))
  const { features, adapterInfo } = gpu.device
  const subgroup = features.has('subgroups') ? (adapterInfo?.subgroupMinSize ?? 1) : 1
  return { tile, parts: Math.max(1, shares), subgroup }
}

const steps = (outer: readonly number[], own: readonly number[]): number[] => {
  let step = 1
  const found = outer.map(() => 0)
  for (let i = 3; i >= 0; i--) {
    found[i] = own[i] === 1 ? 0 : step
    step *= own[i]!
  }
  return found
}
const padded = (shape: readonly number[]): number[] => [...Array<number>(4 - shape.length).fill(1), ...shape]

/**
 * May the tiles of products hold float16? Takes effect where the device has `shader-f16`: half the workgroup memory, and
 * results within 2e-3 of the largest.
 */
export const tiles: { half: boolean } = { half: false }

interface Call {
  readonly a: TensorInfo
  readonly b: TensorInfo | { readonly shape: readonly number[]; readonly decoding: Decoding }
  readonly transposeA?: boolean | undefined
  readonly transposeB?: boolean | undefined
  readonly scale?: number | undefined
  readonly and?: readonly [TensorInfo, TensorInfo] | undefined
  readonly onto?: TensorInfo | undefined
  readonly bias?: TensorInfo | undefined
  readonly into?: TensorInfo | undefined
}

/**
 * scale·(op(a)·op(b) + op(c)·op(d)) + onto + bias over broadcast batches, or undefined for what tfjs's own kernel has to do.
 * Without a plan one is made for the shape and the device.
 */
export const multiply = (gpu: Gpu, call: Call, plan?: Plan): TensorInfo | undefined => {
  const { a, b, transposeA = false, transposeB = false, scale = 1, and, onto, bias, into } = call
  const more = [...(and ?? []), ...(onto ? [onto] : []), ...(bias ? [bias] : [])]
  const decoding = 'decoding' in b ? b.decoding : undefined
  if (!plainFloats(gpu, a, 'dataId' in b ? b : undefined, ...more, into) || a.shape.length > 6 || b.shape.length > 6)
    return undefined
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number]
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number]
  const m = transposeA ? columnsA : rowsA
  const k = transposeA ? rowsA : columnsA
  const n = transposeB ? rowsB : columnsB
  const r = and ? and[0].shape[transposeA ? 0 : 1]! : 0
  const batchA = padded(a.shape.slice(0, -2))
  const batchB = padded(b.shape.slice(0, -2))
  const outer = batchA.map((d, i) => (d === 1 ? batchB[i]! : d))
  const batch = outer.reduce((p, d) => p * d, 1)
  const isThin = m <= THIN
  const [wideA, wideB] = [(transposeA ? m : k) % 4 === 0, (transposeB ? k : n) % 4 === 0]
  const form: Form = {
    transposeA,
    transposeB,
    wide: isThin
      ? {
          a: transposeB && wideB && !transposeA,
          b: wideB && !(transposeA && transposeB),
          c: false,
          d: false,
          y: !transposeB && wideB,
        }
      : {
          a: wideA,
          b: wideB,
          c: (transposeA ? m : r) % 4 === 0,
          d: (transposeB ? r : n) % 4 === 0,
          y: n % 4 === 0,
        },
    and: Boolean(and),
    onto: Boolean(onto),
    bias: Boolean(bias),
    into: Boolean(into),
    half: !isThin && tiles.half && gpu.device.features.has('shader-f16'),
    decoding,
  }
  const { tile, parts: most, subgroup } = plan ?? planFor(gpu, m, n, k, batch)
  const parts = isThin || more.length || into ? 1 : most
  const part = Math.ceil(k / parts / tile.depth) * tile.depth
  const groups: [number, number, number] = isThin
    ? [Math.ceil(n / columnsOf(form, subgroup)), 1, batch]
    : [Math.ceil(n / widthOf(tile)), Math.ceil(m / heightOf(tile)), batch * parts]
  if (groups.some((g) => g > gpu.device.limits.maxComputeWorkgroupsPerDimension)) return undefined
  const shape = [...outer.slice(4 - (Math.max(a.shape.length, b.shape.length) - 2)), m, n]
  const [y] = dispatch(gpu, isThin ? thin(form, m, subgroup) : tiled(form, tile), {
    reads: [a, ...('dataId' in b ? [b] : Object.values(b.decoding.reads)), ...more],
    writes: [into ?? (parts > 1 ? [batch * parts * m * n] : shape)],
    uniforms: [m, n, k, r, outer, steps(outer, batchA), steps(outer, batchB), scale, part, parts],
    groups,
  })
  if (parts === 1) return y
  const total = batch * m * n
  const [whole] = dispatch(gpu, sumParts, {
    reads: [y!],
    writes: [shape],
    uniforms: [m * n, parts, total],
    groups: fold(gpu, Math.ceil(total / 64)),
  })
  gpu.disposeData(y!.dataId)
  return whole
}

/** the products of fused kernels: one dispatch each */
export const productOnGpu = (p: Product): Tensor | undefined => {
  const y = multiply(backend() as unknown as Gpu, p)
  return y && (p.into ?? track(y))
}

/** with a packed matrix, decoded where the tiles are loaded */
export const decodedOnGpu: DecodedOn = (x, shape, { shader }, back) => {
  const decoding = shader()
  const a = { dataId: x.dataId, dtype: x.dtype, shape: [-1, x.shape.at(-1)!] }
  a.shape[0] = x.size / a.shape[1]!
  const y = decoding && multiply(backend() as unknown as Gpu, { a, b: { shape, decoding }, transposeB: !back })
  return y && reshape(track(y), [...x.shape.slice(0, -1), shape[back ? 1 : 0]])
}

/** Our product in the place of tfjs's, which remains for what ours declines. */
export const replaceMatMul = (): void => {
  const stock = getKernel('BatchMatMul', 'webgpu')
  unregisterKernel('BatchMatMul', 'webgpu')
  registerKernel({
    ...stock,
    kernelFunc: (call) => {
      const { a, b } = call.inputs as { a: TensorInfo; b: TensorInfo }
      const { transposeA, transposeB } = call.attrs as { transposeA?: boolean; transposeB?: boolean }
      return multiply(call.backend as unknown as Gpu, { a, b, transposeA, transposeB }) ?? stock.kernelFunc(call)
    },
  })
}
