import type { Adapter, Codec, Revisable, Revision, Site, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import {
  add,
  clone,
  defineKernel,
  gradients,
  keep,
  linear,
  matMul,
  reshape,
  tensor,
  tensor1d,
  tensor2d,
  tidy,
  zeros,
} from '@weftjs/tensor'
import { packed } from '@weftjs/weight'
import type { AqlmOptions } from '../aqlm.ts'
import { closed, groupsOf, type Opened, type Opening, opened, opens, type Pieces, rebuild, ungrouped } from './open.ts'
import { vStep } from './v-step.ts'

export interface PvOptions {
  /** the format that a weight is put into first whose own has no codes to train (a dense one) */
  readonly of?: Codec<any>
  /** τ, largest share of a matrix's groups whose codes may move in a step; 0: codes stay, and code books and scales train alone */
  readonly tau?: number
  /** largest change of a matrix in a step by its codes, as a share of its norm; one group may always move */
  readonly trust?: number
  /** rate of the V step, relative to the norm of the matrix where `lamb`, else of Adam's direction; and Adam's β₂ */
  readonly codeLr?: number
  readonly b2?: number
  readonly lamb?: boolean
  /** 0: what no code can express yet adds up in a buffer; 1: it is forgotten; between: so much of the way */
  readonly decay?: number
  /** guesses that the search for codes keeps in mind, where several code books add up */
  readonly beam?: number
}
export interface PvState extends Record<string, Tensor> {
  /** [groups, codebooks], fixed but for `revise` */
  codes: Tensor
  /** [codebooks · 2^bits, numbers of a group]; fixed where the format has its own */
  books: Tensor
  /** of each group, or block of groups */
  scale: Tensor
}
/** beside it, fixed: what the V step remembers */
interface Remembered {
  /** E over steps of G ⊙ G [out, in] */
  readonly second?: Tensor2D
  /** where the matrix would be if it were not of codes [out, in] */
  readonly wanted?: Tensor2D
}

/** numbers that train at a site: scales, and the code books where they are the matrix's own */
export const trainable = ({ in: input, out }: Pick<Site, 'in' | 'out'>, codec: Codec<any>): number => {
  const { scale, absmax } = codec.layout!([out, input])
  const { codebooks = 2, bits = 8, group = 8, outGroup = 1 } = codec.options as AqlmOptions
  const books = codec.name === 'aqlm' ? codebooks * 2 ** bits * group * outGroup : 0
  return books + (scale ?? absmax)!.shape[0]!
}

interface Attrs {
  readonly make: (books: Tensor, scale: Tensor) => Tensor2D
  readonly see: ((g: Tensor) => void) | undefined
}
/** x·Wᵀ; the gradient of W is made once, shown to `see`, and passed on to what W is made of */
const product = defineKernel<{ x: Tensor; books: Tensor; scale: Tensor }, Attrs>({
  name: 'PvMatMul',
  plain: ({ x, books, scale }, { make }) => linear(x, make(books, scale)),
  gradient: ({ dy, saved, attrs: { make, see }, wants, shapes }) => {
    const { x, books, scale } = saved
    const rows = reshape(dy, [-1, dy.shape.at(-1)!])
    const dx = (w: Tensor): Tensor => reshape(matMul(rows, w), [...shapes.x])
    const names = (['books', 'scale'] as const).filter(wants)
    if (!names.length && !see) return { x: dx(make(books, scale)) }
    const g = matMul(rows, reshape(x, [-1, x.shape.at(-1)!]), true) // [out, in]
    see?.(g)
    const { value, grads } = gradients(
      () => make(books, scale),
      names.map((n) => saved[n]),
      g,
    )
    const found = Object.fromEntries(names.map((n, i) => [n, grads[i]!]))
    return wants('x') ? { ...found, x: dx(value) } : found
  },
})

/**
 * A quantized matrix whose code books and scales train (P), and of whose codes a few move (V)  —  Malinovskii et al., arXiv:2405.14852
 *
 * Of the gradient G of the decoded matrix, P is what reaches code books and scales, which any optimizer steps; V, in `revise`,
 * steps W⁺ = W − η·Adam(G) with β₁ = 0 and lets those groups take the nearest codes that are farthest from it, within τ and
 * trust. The loss is up to the caller; the paper's is KL(teacher ‖ student). What trains has the precision that the format
 * keeps, and `fold` puts it into the format with these codes: the folded network is packed and gives the same numbers. Comes
 * before other adapters at its sites, and reads numbers back in `revise`, which WebGPU cannot. @family quant
 */
export const pv = (options: PvOptions = {}): Adapter<PvState> => {
  const { of, tau = 0.01, trust = 0.01, codeLr = 3e-3, b2 = 0.95, lamb = true, decay = 0, beam = 1 } = options
  if (!(tau >= 0 && tau <= 1)) throw new Error(`pv: tau must be in (0, 1], or 0 for code books alone, found ${tau}`)
  if (!(trust > 0)) throw new Error(`pv: trust must be above 0, found ${trust}; a large number lifts it`)
  if (!(codeLr >= 0 && Number.isFinite(codeLr))) throw new Error(`pv: codeLr must be at least 0, found ${codeLr}`)
  if (!(b2 >= 0 && b2 < 1)) throw new Error(`pv: b2 must be in [0, 1), found ${b2}`)
  if (!(decay >= 0 && decay <= 1)) throw new Error(`pv: decay must be in [0, 1], found ${decay}`)
  if (!Number.isInteger(beam) || beam < 1)
    throw new Error(`pv: beam must be a whole number of at least 1, found ${beam}`)
  /** gradients of decoded matrices since the last revision, by the codes that they were decoded with */
  const notes = new WeakMap<Tensor, Tensor>()
  const note = (codes: Tensor, g: Tensor): void =>
    void tidy(() => {
      const before = notes.get(codes)
      notes.set(codes, keep(before ? add(before, g) : clone(g)))
      before?.dispose()
    })
  /** how the matrix of a site falls apart; and decoded matrices, with what they are made of */
  const ways = new WeakMap<Site, { readonly at: Opening; readonly base: Weight }>()
  const made = new WeakMap<Tensor, Pieces>()
  const numbers = (t: Tensor): Float32Array => Float32Array.from(t.dataSync() as Float32Array)
  const wholes = (t: Tensor): Int32Array => Int32Array.from(t.dataSync() as Int32Array)

  const step = (site: Revisable<PvState>, at: Opening, t: number): Revision<PvState> | undefined => {
    const { state } = site
    const { second, wanted } = state as unknown as Remembered
    const noted = notes.get(state.codes)
    if (!noted || !second) return undefined
    const [g, v] = [numbers(noted), numbers(second)]
    noted.dispose()
    notes.delete(state.codes)
    const [codes, books, scale] = [wholes(state.codes), numbers(state.books), numbers(state.scale)]
    const from = wanted ? numbers(wanted) : ungrouped(at, groupsOf(at, codes, books, scale))
    let [size, length] = [0, 0]
    const direction = g.map((slope, i) => {
      v[i] = b2 * v[i]! + (1 - b2) * slope * slope
      const d = slope / (Math.sqrt(v[i]!) + 1e-12)
      size += from[i]! ** 2
      length += d * d
      return d
    })
    const rate = codeLr * Math.sqrt(1 - b2 ** t) * (lamb && length && size ? Math.sqrt(size / length) : 1)
    const target = from.map((w, i) => w - rate * direction[i]!)
    const next = vStep(at, { codes, books, scale, target: ungrouped(at, target, true) }, { tau, trust, beam })
    const now = decay > 0 && decay < 1 ? ungrouped(at, groupsOf(at, next, books, scale)) : undefined
    const left = now ? target.map((w, i) => decay * now[i]! + (1 - decay) * w) : target
    const moved = next.some((code, i) => code !== codes[i])
    const shape = [...at.shape] as [number, number]
    return {
      state: {
        ...(moved && { codes: tensor(next, state.codes.shape, 'int32') }),
        second: tensor2d(v, shape),
        ...(wanted && { wanted: tensor2d(left, shape) }),
      } as Partial<PvState>,
    }
  }

  return {
    name: 'pv',
    options: { ...options },
    init: (site) => {
      const { weight } = site
      const own = opens(weight!.codec) || !of ? weight! : packed(of, weight!.dense())
      const { at, codes, books, scale }: Opened = opened(site.name, own)
      const base: Weight = {
        ...own,
        parts: own === weight ? {} : own.parts, // else they stay the network's own
        like: (w) => {
          const pieces = made.get(w)
          if (!pieces) return own.like(w)
          return closed(own, {
            at,
            codes: wholes(pieces.codes),
            books: numbers(pieces.books),
            scale: numbers(pieces.scale),
          })
        },
      }
      ways.set(site, { at, base })
      const d = at.group * at.outGroup
      const remembered: Remembered = {
        ...(tau && { second: zeros([...at.shape]) as Tensor2D }),
        ...(tau && decay < 1 && { wanted: own.dense() }),
      }
      const state: PvState = {
        codes: tensor(codes, [codes.length / at.codebooks, at.codebooks], 'int32'),
        books: tensor2d(books, [books.length / d, d]),
        scale: tensor1d(scale),
        ...remembered,
      }
      return { state, base, trains: at.learns ? ['books', 'scale'] : ['scale'] }
    },
    weight: (base, { codes, books, scale }, { site, training }) => {
      const way = ways.get(site)
      if (!way || (base !== way.base && base.format !== way.base.format))
        throw new Error(`${site.name}: 'pv' takes a quantized matrix apart; put it before the other adapters here`)
      const { at } = way
      const make = (b: Tensor, s: Tensor): Tensor2D => rebuild(at, { codes, books: b, scale: s })
      const see = training && tau ? (g: Tensor): void => note(codes, g) : undefined
      return {
        shape: at.shape,
        format: 'pv',
        parts: { codes, books, scale },
        apply: (x) => product({ x, books, scale }, { make, see }),
        dense: () => {
          const w = make(books, scale)
          made.set(w, { codes, books, scale })
          return w
        },
        like: base.like,
      }
    },
    ...(tau && {
      revise: (sites, { step: t }) =>
        Object.fromEntries(
          Object.entries(sites).flatMap(([name, site]): [string, Revision<PvState>][] => {
            const at = ways.get(site.site)?.at
            const found = at && step(site, at, t)
            return found ? [[name, found]] : []
          }),
        ),
    }),
  }
}
