import {
  type DataType,
  getKernel,
  type KernelFunc,
  registerKernel,
  slice_util,
  type TensorInfo,
  unregisterKernel,
  util,
} from '@tensorflow/tfjs-core'
import { addressOf, routines } from '../../heap.ts'
import * as module from '../../wasm/shape.generated.ts'

interface Heap {
  makeOutput(shape: readonly number[], dtype: DataType): TensorInfo
  incRef(id: TensorInfo['dataId']): void
  disposeData(id: TensorInfo['dataId']): boolean
  typedArrayFromHeap(t: TensorInfo): Int32Array
}
type Call = { readonly attrs: Record<string, unknown>; readonly heap: Heap }

const size = util.sizeFromShape
/** 4 bytes an element, and not empty */
const plain = (...xs: TensorInfo[]): boolean =>
  xs.every((x) => (x.dtype === 'float32' || x.dtype === 'int32') && size(x.shape) > 0)

/** a loop: how often, and how far in bytes the source and the result move */
type Loop = readonly [n: number, from: number, to: number]
const once: Loop = [1, 0, 0]

/** runs of `bytes` from address x to address y, in up to three loops */
const copyRuns = (x: number, y: number, bytes: number, loops: readonly Loop[]): void => {
  const [a = once, b = once, c = once] = [...Array<Loop>(3 - loops.length).fill(once), ...loops]
  routines(module)!['copyRuns']!(x, y, bytes, ...a, ...b, ...c)
}

/** the same data under another shape */
const shared = (x: TensorInfo, shape: readonly number[], heap: Heap): TensorInfo => {
  heap.incRef(x.dataId)
  return { dataId: x.dataId, shape: [...shape], dtype: x.dtype }
}

/** axes of one element are left out, and axes that stay neighbours are one: [shape, perm] */
const reduced = (shape: readonly number[], perm: readonly number[]): [number[], number[]] => {
  const groups: number[][] = []
  for (const axis of perm) {
    if (shape[axis] === 1) continue
    const last = groups.at(-1)
    const ones = last && shape.slice(last.at(-1)! + 1, axis).every((n) => n === 1)
    if (ones && axis > last.at(-1)!) last.push(axis)
    else groups.push([axis])
  }
  const inOrder = [...groups].sort((a, b) => a[0]! - b[0]!)
  return [inOrder.map((g) => g.reduce((p, a) => p * shape[a]!, 1)), groups.map((g) => inOrder.indexOf(g))]
}

/** Rows that stay whole are copied as rows; [.., a, b] → [.., b, a] goes by squares of four; an order kept costs nothing. */
const transpose = (x: TensorInfo, { attrs, heap }: Call): TensorInfo | undefined => {
  const perm = (attrs['perm'] as number[]).map((p) => (p < 0 ? p + x.shape.length : p))
  const outShape = perm.map((p) => x.shape[p]!)
  const [shape, order] = reduced(x.shape, perm)
  const rank = shape.length
  if (rank < 2) return shared(x, outShape, heap)
  const rowsStay = order.at(-1) === rank - 1
  const turned = order.at(-1) === rank - 2 && order.at(-2) === rank - 1 && order.slice(0, -2).every((p, i) => p === i)
  if (rowsStay ? rank > 4 : !turned) return undefined
  const y = heap.makeOutput(outShape, x.dtype)
  const [from, to] = [addressOf(x), addressOf(y)]
  if (turned) {
    const [rows, columns] = shape.slice(-2) as [number, number]
    routines(module)!['transpose']!(from, to, size(shape.slice(0, -2)), rows, columns)
  } else {
    const bytes = 4 * shape.at(-1)!
    const strideOf = (axis: number): number => 4 * size(shape.slice(axis + 1))
    let step = 4 * size(shape)
    const loops = order.slice(0, -1).map((p): Loop => {
      step /= shape[p]!
      return [shape[p]!, strideOf(p), step]
    })
    copyRuns(from, to, bytes, loops)
  }
  return y
}

/** one part of x (of up to four axes), by runs; tfjs would read all of x back first. Always a copy: it may be written over */
const part = (x: TensorInfo, begin: readonly number[], shape: number[], heap: Heap): TensorInfo => {
  const y = heap.makeOutput(shape, x.dtype)
  // the first axis from the right that is not whole ends the run
  let axis = shape.length - 1
  while (axis > 0 && shape[axis] === x.shape[axis]) axis--
  const strides = x.shape.map((_, i) => 4 * size(x.shape.slice(i + 1)))
  const bytes = shape[axis]! * strides[axis]!
  const start = addressOf(x) + begin.reduce((sum, b, i) => sum + b * strides[i]!, 0)
  const to = addressOf(y)
  const loops = Array.from({ length: axis }, (_, i): Loop => [shape[i]!, strides[i]!, 4 * size(shape.slice(i + 1))])
  copyRuns(start, to, bytes, loops)
  return y
}

const slice = (x: TensorInfo, { attrs, heap }: Call): TensorInfo | undefined => {
  const given = [attrs['begin'], attrs['size']] as [number[], number[]]
  const [begin, shape] = slice_util.parseSliceParams(x as never, ...given) as [number[], number[]]
  slice_util.assertParamsValid(x as never, begin, shape)
  return size(shape) ? part(x, begin, shape, heap) : undefined
}

const splitV = (x: TensorInfo, { attrs, heap }: Call): TensorInfo[] | undefined => {
  const axis = util.parseAxisParam(attrs['axis'] as number, x.shape)[0]!
  const given = attrs['numOrSizeSplits'] as number | number[]
  const n = x.shape[axis]!
  const sizes = typeof given === 'number' ? Array<number>(given).fill(n / given) : given
  if (!sizes.every((s) => s > 0) || sizes.reduce((a, b) => a + b) !== n) return undefined
  let at = 0
  return sizes.map((s) => {
    const begin = x.shape.map((_, i) => (i === axis ? at : 0))
    at += s
    return part(x, begin, x.shape.with(axis, s), heap)
  })
}

const concat = (xs: readonly TensorInfo[], { attrs, heap }: Call): TensorInfo | undefined => {
  const axis = util.parseAxisParam(attrs['axis'] as number, xs[0]!.shape)[0]!
  const runs = xs.map((x) => 4 * size(x.shape.slice(axis)))
  const row = runs.reduce((a, b) => a + b)
  const shape = xs[0]!.shape.with(
    axis,
    xs.reduce((sum, x) => sum + x.shape[axis]!, 0),
  )
  const y = heap.makeOutput(shape, xs[0]!.dtype)
  let to = addressOf(y)
  xs.forEach((x, i) => {
    copyRuns(addressOf(x), to, runs[i]!, [[size(shape.slice(0, axis)), runs[i]!, row]])
    to += runs[i]!
  })
  return y
}

/** Σ over neighbouring axes that are not the last: a bias's gradient, by rows and without a transpose */
const sum = (x: TensorInfo, { attrs, heap }: Call): TensorInfo | undefined => {
  const axes = util.parseAxisParam(attrs['axis'] as number[], x.shape).toSorted((a, b) => a - b)
  const [first, last] = [axes[0] ?? 0, axes.at(-1) ?? 0]
  if (x.dtype !== 'float32' || last - first + 1 !== axes.length || last === x.shape.length - 1) return undefined
  const before = x.shape.slice(0, first)
  const within = x.shape.slice(first, last + 1)
  const after = x.shape.slice(last + 1)
  const y = heap.makeOutput([...before, ...(attrs['keepDims'] ? within.map(() => 1) : []), ...after], 'float32')
  routines(module)!['sumRows']!(addressOf(x), addressOf(y), size(before), size(within), size(after))
  return y
}

/** the parts of one axis, without it */
const unpack = (x: TensorInfo, { attrs, heap }: Call): TensorInfo[] => {
  const axis = util.parseAxisParam(attrs['axis'] as number, x.shape)[0]!
  return Array.from({ length: x.shape[axis]! }, (_, i) => {
    const begin = x.shape.map((_, a) => (a === axis ? i : 0))
    return { ...part(x, begin, x.shape.with(axis, 1), heap), shape: x.shape.toSpliced(axis, 1) }
  })
}

/** axis by axis from the last, so that runs grow */
const tile = (x: TensorInfo, { attrs, heap }: Call): TensorInfo => {
  const reps = attrs['reps'] as number[]
  let y = shared(x, x.shape, heap)
  for (let axis = reps.length - 1; axis >= 0; axis--) {
    const r = reps[axis]!
    if (r === 1) continue
    const run = 4 * size(y.shape.slice(axis))
    const next = heap.makeOutput(y.shape.with(axis, r * y.shape[axis]!), x.dtype)
    const outer: Loop = [size(y.shape.slice(0, axis)), run, r * run]
    copyRuns(addressOf(y), addressOf(next), run, [outer, [r, 0, run]])
    heap.disposeData(y.dataId)
    y = next
  }
  return y
}

const gather = (x: TensorInfo, ids: TensorInfo, { attrs, heap }: Call): TensorInfo | undefined => {
  if (attrs['batchDims'] || ids.dtype !== 'int32') return undefined
  const axis = util.parseAxisParam(attrs['axis'] as number, x.shape)[0]!
  const [before, after] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)]
  const n = x.shape[axis]!
  const wrong = heap.typedArrayFromHeap(ids).find((id) => id < 0 || id >= n)
  if (wrong !== undefined) throw new Error(`gather: index ${wrong} is outside of [0, ${n}), the size of axis ${axis}`)
  const y = heap.makeOutput([...before, ...ids.shape, ...after], x.dtype)
  const addresses = [x, ids, y].map(addressOf)
  routines(module)!['gather']!(...addresses, size(before), n, size(ids.shape), 4 * size(after))
  return y
}

/** ours in the place of a kernel of tfjs; the stock one where ours returns undefined */
export const replace = (
  name: string,
  ours: (inputs: TensorInfo[], call: Call) => TensorInfo | TensorInfo[] | undefined,
): void => {
  const stock = getKernel(name, 'wasm')
  if (!stock) return
  const kernelFunc: KernelFunc = (call) => {
    const inputs = Object.values(call.inputs) as TensorInfo[]
    const heap = call.backend as unknown as Heap
    return ours(inputs, { attrs: (call.attrs ?? {}) as never, heap }) ?? stock.kernelFunc(call)
  }
  unregisterKernel(name, 'wasm')
  registerKernel({ ...stock, kernelFunc })
}

let done = false

/**
 * Ops of tfjs that move data, done on the heap itself. Stock tfjs copies a tensor to share it (so every tensor saved for
 * a gradient, weights included, would exist twice) and reads all of a tensor back to take a slice of it.
 */
export const replaceShapeOps = (): void => {
  if (done) return
  done = true
  replace('Identity', ([x], { heap }) => (x!.dtype === 'string' ? undefined : shared(x!, x!.shape, heap)))
  replace('Cast', ([x], { attrs, heap }) =>
    x!.dtype === attrs['dtype'] && plain(x!) ? shared(x!, x!.shape, heap) : undefined,
  )
  const one =
    (f: (x: TensorInfo, call: Call) => TensorInfo | TensorInfo[] | undefined, most = Number.POSITIVE_INFINITY) =>
    ([x]: TensorInfo[], call: Call) =>
      plain(x!) && x!.shape.length <= most ? f(x!, call) : undefined
  replace('Transpose', one(transpose))
  replace('Slice', one(slice, 4))
  replace('SplitV', one(splitV, 4))
  replace('Unpack', one(unpack, 4))
  replace('Tile', one(tile))
  replace('Sum', one(sum))
  replace('GatherV2', ([x, ids], call) => (plain(x!, ids!) ? gather(x!, ids!, call) : undefined))
  replace('Concat', (xs, call) => {
    const { dtype } = xs[0]!
    return plain(...xs) && xs.every((x) => x.dtype === dtype) ? concat(xs, call) : undefined
  })
}
