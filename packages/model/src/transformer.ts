import type { Attention, Params, Tensor, Weight } from '@weftjs/spec'
import {
  activate,
  add,
  addLayerNorm,
  addRmsNorm,
  attention,
  broadcastTo,
  cast,
  concat,
  equal,
  expandDims,
  glu,
  isLive,
  layerNorm,
  mul,
  range,
  reshape,
  rmsNorm,
  rotary,
  rotaryHeads,
  slice,
  split,
  sub,
  tanh,
  tidy,
  transpose,
} from '@weftjs/tensor'
import { affine, lookup, rowsOf } from '@weftjs/weight'
import type { TransformerConfig } from './config.ts'
import { mixture, type Routing } from './experts.ts'
import { pooled, realTokens } from './pooling.ts'
import { rotaryTables } from './rope.ts'

export type Next = (x: Tensor) => Tensor

/** The two seams of a model: what a layer multiplies by, and what happens around a named module. */
export interface Hooks {
  weight(site: string): Weight
  /** a bias, a norm's scale; undefined where the model has none */
  vector(name: string): Tensor | undefined
  around(site: string, next: Next): Next
  attend(site: string, next: (x: Attention) => Tensor): (x: Attention) => Tensor
  /** runs a block in a way of its own: `make` gives it from the tensors that all blocks share */
  block?<S>(site: string, make: (shared: S) => Next, shared: S): Next
  /** is told how a mixture of experts sent the tokens of a layer */
  route?(routing: Routing): void
  /** rows of the batch are told apart within linear sites: x keeps its first axis up to there */
  readonly whole?: boolean
  /** tensors that blocks leave for what comes after them */
  carried?(): readonly Tensor[]
  /** nothing but weights and vectors acts within this block: nobody else has seen what goes into it or comes out */
  untouched?(block: string): boolean
}

/**
 * Keys and values of earlier tokens: takes the new ones of a layer, or of something of an adapter's by its name, and gives
 * all of them back, the first `keys` of [B, G, room, S].
 */
export interface Cache {
  /** tokens already held */
  readonly length: number
  extend(layer: number | string, k: Tensor, v: Tensor): { k: Tensor; v: Tensor; keys: number }
}

/**
 * What a forward pass reads: `ids` [B, T] int32 (or `pixels` [B, channels, size, size]), and, where they differ from the
 * plain case, `positions` [B, T], `segments` [B, T] (tokens see only their own), `mask` [B, K] (0 hides a key), `types` [B, T].
 */
export type Inputs = Params

/** what all blocks of one forward pass share */
interface Pass {
  readonly bias?: Tensor
  readonly global?: { cos: Tensor; sin: Tensor }
  readonly local?: { cos: Tensor; sin: Tensor }
}

/** −1e9 where a key is hidden: [B, 1, T, K] from segments, [B, 1, 1, K] from a mask */
const prepare = (c: TransformerConfig, inputs: Inputs, positions: Tensor, length: number): Pass => {
  const hide = (visible: Tensor): Tensor => mul(sub(1, cast(visible, 'float32')), -1e9)
  const { segments, mask } = inputs
  const biases = [
    segments && expandDims(hide(equal(expandDims(segments, 2), expandDims(segments, 1))), 1),
    mask && expandDims(expandDims(hide(mask), 1), 1),
  ].filter((b) => b !== undefined)
  return {
    ...(biases.length && { bias: biases.reduce((a, b) => add(a, b)) }),
    ...(c.rope && { global: rotaryTables(c, c.rope, positions, length) }),
    ...(c.ropeLocal && { local: rotaryTables(c, c.ropeLocal, positions, length) }),
  }
}

/** the columns of bias [..., K] for the last k keys: a cache may have dropped what a sliding layer cannot see */
const lastKeys = (bias: Tensor, k: number): Tensor => {
  const [a, b, c, K] = bias.shape as [number, number, number, number]
  return K <= k ? bias : slice(bias, [0, 0, 0, K - k], [a, b, c, k])
}

/** the first n keys of x [B, G, room, S] */
export const firstKeys = (x: Tensor, n: number): Tensor => {
  const [B, G, , S] = x.shape as [number, number, number, number]
  return slice(x, [0, 0, 0, 0], [B, G, n, S])
}

/** B batch, T tokens, K keys, D width, H heads, G key-value heads, S head width, F hidden, V vocabulary */
export const transformer = (
  c: TransformerConfig,
  {
    weight,
    vector,
    around,
    attend,
    route,
    carried,
    untouched,
    whole = false,
    block: through = (_, make, shared) => make(shared),
  }: Hooks,
  cache?: Cache,
): { hidden: (inputs: Inputs) => Tensor; head: Next } => {
  const at = (site: string, x: Tensor, run: Next): Tensor => around(site, run)(x)
  const linear = (site: string, x: Tensor): Tensor =>
    at(site, x, (x) => affine(weight(site), x, vector(`${site}.bias`)))
  const scaleOf = (site: string): Tensor => {
    const stored = vector(site)!
    return c.normOffset ? add(stored, c.normOffset) : stored
  }
  /** an RMS norm has a bias only where an adapter made one */
  const shifted = (y: Tensor, bias: Tensor | undefined): Tensor => (bias ? add(y, bias) : y)
  const bareNorm =
    (site: string): Next =>
    (x) => {
      const bias = vector(`${site}.bias`)
      return c.norm === 'rms'
        ? shifted(rmsNorm(x, scaleOf(site), c.eps), bias)
        : layerNorm(x, scaleOf(site), bias!, c.eps)
    }
  const norm = (site: string, x: Tensor): Tensor => at(site, x, bareNorm(site))
  /** [h + y, norm(h + y)], one kernel where nothing is wrapped around the norm */
  const addNorm = (site: string, h: Tensor, y: Tensor): [sum: Tensor, norm: Tensor] => {
    const bare = bareNorm(site)
    const run = around(site, bare)
    if (run === bare) {
      const bias = vector(`${site}.bias`)
      if (c.norm === 'layer') return addLayerNorm(h, y, scaleOf(site), bias!, c.eps)
      const [sum, normed] = addRmsNorm(h, y, scaleOf(site), c.eps)
      return [sum, shifted(normed, bias)]
    }
    const sum = add(h, y)
    return [sum, run(sum)]
  }
  const has = (name: string): boolean => vector(name) !== undefined

  /** [B, T, n·S] → [B, n, T, S]; one token lies the same either way */
  const heads = (x: Tensor, n: number): Tensor => {
    const [B, T] = x.shape as [number, number]
    if (T === 1) return reshape(x, [B, n, 1, c.headWidth])
    return transpose(reshape(x, [B, T, n, c.headWidth]), [0, 2, 1, 3])
  }
  const merge = (x: Tensor): Tensor =>
    reshape(x.shape[2] === 1 ? x : transpose(x, [0, 2, 1, 3]), [x.shape[0]!, x.shape[2]!, -1])

  const attn =
    (b: string, layer: number, pass: Pass): Next =>
    (x) => {
      const parts = c.fused
        ? split(
            linear(`${b}.attn.qkv`, x),
            [c.heads * c.headWidth, c.kvHeads * c.headWidth, c.kvHeads * c.headWidth],
            -1,
          )
        : ['q', 'k', 'v'].map((n) => linear(`${b}.attn.${n}`, x))
      const sliding = c.sliding[layer] ?? false
      const tables = sliding && c.ropeLocal ? pass.local : pass.global
      const turn = (x: Tensor, n: number, site: string): Tensor => {
        if (tables && !has(site)) return rotaryHeads(x, n, tables.cos, tables.sin)
        const y = has(site) ? norm(site, heads(x, n)) : heads(x, n)
        return tables ? rotary(y, tables.cos, tables.sin) : y
      }
      const q = turn(parts[0]!, c.heads, `${b}.attn.qnorm`)
      const k = turn(parts[1]!, c.kvHeads, `${b}.attn.knorm`)
      const v = heads(parts[2]!, c.kvHeads)
      const held = cache?.extend(layer, k, v) ?? { k, v, keys: k.shape[2]! }
      const bias = pass.bias && lastKeys(pass.bias, held.keys)
      const window = sliding ? c.window : undefined
      const plain = ({ q, k, v, bias, causal }: Attention, keys = k.shape[2]!): Tensor =>
        attention(q, k, v, bias, { scale: c.scale, causal, window, softcap: c.softcap, keys })
      const core = attend(`${b}.attn.core`, plain)
      // an adapter sees the keys that are there, nobody else minds the room behind them
      const alone = core === plain
      const seen = (t: Tensor): Tensor => (alone || t.shape[2] === held.keys ? t : firstKeys(t, held.keys))
      const all = { q, k: seen(held.k), v: seen(held.v), causal: c.causal, ...(bias && { bias }) }
      return linear(`${b}.attn.o`, merge(alone ? plain(all, held.keys) : core(all)))
    }

  const experts = (b: string, e: NonNullable<TransformerConfig['experts']>): Next =>
    mixture(c, e, { linear: (name, x) => linear(`${b}.mlp.${name}`, x), whole, ...(route && { route }) })

  const mlp = (b: string, layer: number): Next => {
    if (c.experts?.layers[layer]) return experts(b, c.experts)
    return (x) => {
      const gate = c.gated && linear(`${b}.mlp.gate`, x) // [B, T, F]
      const up = linear(`${b}.mlp.up`, x) // [B, T, F]
      const f = gate ? glu(gate, up, c.activation) : activate(up, c.activation)
      return linear(`${b}.mlp.down`, f)
    }
  }

  const block =
    (layer: number, pass: Pass): Next =>
    (h) => {
      const b = `blocks.${layer}`
      const branch = (n: 1 | 2, x: Tensor): Tensor => {
        const y = n === 1 ? at(`${b}.attn`, x, attn(b, layer, pass)) : at(`${b}.mlp`, x, mlp(b, layer))
        return c.placement === 'sandwich' ? norm(`${b}.norm${n}post`, y) : y
      }
      if (c.placement === 'post') {
        const first = norm(`${b}.norm1`, add(h, branch(1, h)))
        return norm(`${b}.norm2`, add(first, branch(2, first)))
      }
      const [sum, x] = addNorm(`${b}.norm2`, h, branch(1, norm(`${b}.norm1`, h)))
      return add(sum, branch(2, x))
    }

  /** pixels [B, C, n·p, n·p] → [B, n², C·p²], patches from left to right, then down */
  const patches = (pixels: Tensor): Tensor => {
    const { patch, channels, size } = c.image!
    const n = size / patch
    const [B, C, height, width] = pixels.shape as [number, number, number, number]
    if (C !== channels || height !== size || width !== size)
      throw new Error(`pixels: expected [B, ${channels}, ${size}, ${size}], found [${pixels.shape}]; resize the images`)
    const rows = transpose(reshape(pixels, [B * C * n, patch, n, patch]), [0, 2, 1, 3]) // [B·C·n, n, p, p]
    return reshape(transpose(reshape(rows, [B, C, n * n, patch * patch]), [0, 2, 1, 3]), [B, n * n, C * patch * patch])
  }
  const given = (inputs: Inputs, name: string): Tensor => {
    if (inputs[name]) return inputs[name]
    throw new Error(`this model reads '${name}', and the inputs are ${Object.keys(inputs).join(', ') || 'empty'}`)
  }
  /** ids [B, T] or pixels → [B, T, D] */
  const embed = (inputs: Inputs): Tensor => {
    if (c.input === 'tokens') return at('embed', given(inputs, 'ids'), (ids) => rowsOf(weight('embed'), ids))
    const h = linear('embed', patches(given(inputs, 'pixels')))
    const cls = vector('cls')
    return cls ? concat([broadcastTo(reshape(cls, [1, 1, c.width]), [h.shape[0]!, 1, c.width]), h], 1) : h
  }
  /** adds what tells places apart: [B, T, D] → [B, T, D] */
  const place = (embedded: Tensor, positions: Tensor, types?: Tensor): Tensor => {
    let h = c.embedScale === 1 ? embedded : mul(embedded, c.embedScale)
    const learned = vector('positions') // [P, D]
    if (learned)
      h = add(h, lookup(learned, c.positionOffset ? cast(add(positions, c.positionOffset), 'int32') : positions))
    const kinds = vector('types') // [2, D]
    if (kinds) h = add(h, types ? lookup(kinds, types) : slice(kinds, [0, 0], [1, c.width]))
    return has('embed.norm') ? norm('embed.norm', h) : h
  }

  let real: Tensor | undefined
  /** [B, T, D] after the last norm */
  const hidden = (inputs: Inputs): Tensor => {
    if (cache && !c.causal)
      throw new Error('a cache needs causal attention, and here every token sees those after it, too')
    if (c.output === 'classes' && c.pooling) real = realTokens(inputs, c.source['pad_token_id'])
    const embedded = embed(inputs)
    const past = cache?.length ?? 0
    const length = past + embedded.shape[1]!
    if (has('positions') && length > c.maxLength)
      throw new Error(`${length} tokens, and the model has learned ${c.maxLength} positions; shorten the text`)
    const positions = inputs['positions'] ?? (expandDims(range(past, length, 1, 'int32'), 0) as Tensor)
    const pass = prepare(c, inputs, positions, length)
    let h = place(embedded, positions, inputs['types'])
    for (let i = 0; i < c.layers; i++) {
      const site = `blocks.${i}`
      const run = (): Tensor => through(site, (shared: Pass) => (x) => at(site, x, block(i, shared)), pass)(h)
      const before = h
      h = tidy(() => [run(), ...(carried?.() ?? [])])[0]!
      // where nothing trains so far, only the newest is needed
      const ours = i > 0 && before !== h && !isLive(before)
      if (ours && untouched?.(site) && untouched(`blocks.${i - 1}`)) before.dispose()
    }
    return has('norm') ? norm('norm', h) : h
  }

  /** [B, T, D] → what the model ends in: logits [B, T, V] of tokens or [B, C] of classes, or the pooled [B, D] */
  const head = (h: Tensor): Tensor => {
    if (c.output === 'none') throw new Error('this checkpoint is a base model without a head; read its hidden states')
    const first = (c.output === 'classes' && (c.pooling ?? 'first') === 'first') || c.output === 'pooled'
    let x = first ? reshape(slice(h, [0, 0, 0], [-1, 1, -1]), [-1, c.width]) : h // [B, D]
    if (c.pooler) x = activate(linear('pooler', x), 'tanh')
    if (c.output === 'pooled') return x
    if (c.output === 'masked') x = norm('head.norm', activate(linear('head.dense', x), c.activation))
    const logits = linear('head', x)
    if (c.output === 'classes') return first ? logits : pooled(logits, c.pooling!, real) // [B, C]
    return c.logitSoftcap && c.output === 'causal' ? mul(tanh(mul(logits, 1 / c.logitSoftcap)), c.logitSoftcap) : logits
  }

  return { hidden, head }
}
