/** The same Llama in jax-js: no import of ours, and none of Node's, so that a browser can run it too. */
import { adaptersOf, headWidth, type Shape, tensorsOf, valuesOf } from './shape.ts'

type Tree = Record<string, any>

/** a jitted step of AdamW on LoRA's tensors; → its loss. T tokens, D width, H heads, G key-value heads, S head width */
export const jaxStep = (
  { numpy: np, nn, jit, valueAndGrad, tree, blockUntilReady }: any,
  c: Shape,
  rank: number,
  ids: Int32Array,
  { lr = 1e-3, decay = 0.01, b1 = 0.9, b2 = 0.999, eps = 1e-8 } = {},
): (() => Promise<number>) => {
  const T = ids.length
  const [D, H, G, S] = [c.width, c.heads, c.kvHeads, headWidth(c)]
  const array = (values: Float32Array | Int32Array, shape: number[]): any => np.array(values).reshape(shape)
  const w: Tree = {}
  for (const [name, shape] of tensorsOf(c)) w[name] = array(valuesOf(name, shape), shape)
  let params: Tree = {}
  for (const [name, shape] of adaptersOf(c, rank)) {
    params[name] = array(valuesOf(name, shape), shape)
    params[name.replace('lora_A', 'lora_B')] = np.zeros([w[name.replace('lora_A.', '')].shape[0], rank])
  }
  const angles = (f: (x: number) => number): any =>
    array(
      Float32Array.from({ length: (T * S) / 2 }, (_, i) => {
        const [t, j] = [Math.floor(i / (S / 2)), i % (S / 2)]
        return f(t * Math.fround(c.theta ** ((-2 * j) / S)))
      }),
      [T, 1, S / 2],
    )
  const fixed: Tree = {
    cos: angles(Math.cos),
    sin: angles(Math.sin),
    ids: array(ids, [T]),
    targets: array(ids.slice(1), [T - 1]),
  }

  const norm = (x: any, scale: any): any => {
    const r = np.sqrt(np.mean(np.square(x.ref), -1, { keepdims: true }).add(c.eps))
    return x.div(r).mul(scale.ref)
  }
  const linear = (x: any, name: string, p: Tree, w: Tree): any => {
    const a = p[name.replace('.weight', '.lora_A.weight')]
    const b = p[name.replace('.weight', '.lora_B.weight')]
    const weight = np.transpose(w[name].ref)
    if (!a || !b) return np.matmul(x, weight)
    const low = np.matmul(np.matmul(x.ref, np.transpose(a.ref)), np.transpose(b.ref))
    return np.matmul(x, weight).add(low)
  }
  const rotate = (x: any, f: Tree): any => {
    const [a, b] = np.split(x, 2, -1) // [T, n, S/2]
    const left = a.ref.mul(f['cos'].ref).sub(b.ref.mul(f['sin'].ref))
    return np.concatenate([left, b.mul(f['cos'].ref).add(a.mul(f['sin'].ref))], -1)
  }
  const block = (h: any, p: Tree, w: Tree, f: Tree): any => {
    const x = norm(h.ref, w['input_layernorm.weight'])
    const q = rotate(linear(x.ref, 'self_attn.q_proj.weight', p, w).reshape([T, H, S]), f)
    const k = rotate(linear(x.ref, 'self_attn.k_proj.weight', p, w).reshape([T, G, S]), f)
    const v = linear(x, 'self_attn.v_proj.weight', p, w).reshape([T, G, S])
    const mixed = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([T, D])
    const g = h.add(linear(mixed, 'self_attn.o_proj.weight', p, w))
    const y = norm(g.ref, w['post_attention_layernorm.weight'])
    const gate = linear(y.ref, 'mlp.gate_proj.weight', p, w)
    const up = linear(y, 'mlp.up_proj.weight', p, w)
    const out = g.add(linear(nn.silu(gate).mul(up), 'mlp.down_proj.weight', p, w))
    for (const t of [p, w, f]) tree.dispose(t) // every use above took a reference of its own
    return out
  }
  const logits = (h: any, scale: any, embedding: any): any => {
    const last = norm(h, scale).slice([0, T - 1]) // [T − 1, D]
    scale.dispose()
    return np.matmul(last, np.transpose(embedding)) // [T − 1, V]
  }
  const crossEntropy = (logits: any, targets: any): any => {
    // its oneHot would make [V, V] first, and its gather has no gradient under jit
    const hit = np.equal(np.arange(c.vocabulary).astype(np.int32), targets.reshape([T - 1, 1])) // [T − 1, V]
    return np.sum(np.where(hit, nn.logSoftmax(logits, -1), 0)).mul(-1 / (T - 1))
  }
  /** the entries of one layer, without its prefix */
  const within = (l: string, t: Tree): Tree =>
    Object.fromEntries(Object.entries(t).flatMap(([n, x]) => (n.startsWith(l) ? [[n.slice(l.length), x.ref]] : [])))
  // jit by parts: over the whole step it fuses the softmax's gradient into the product with the embedding and computes
  // it anew for each column, which is twenty times slower
  const parts = { block: jit(block), logits: jit(logits), crossEntropy: jit(crossEntropy) }
  const loss = (p: Tree, w: Tree, f: Tree): any => {
    let h = np.take(w['model.embed_tokens.weight'].ref, f['ids'].ref, 0) // [T, D]
    const angles = (): Tree => ({ cos: f['cos'].ref, sin: f['sin'].ref })
    for (let i = 0; i < c.layers; i++) {
      const l = `model.layers.${i}.`
      h = parts.block(h, within(l, p), within(l, w), angles())
    }
    const z = parts.logits(h, w['model.norm.weight'].ref, w['model.embed_tokens.weight'].ref)
    const value = parts.crossEntropy(z, f['targets'].ref)
    for (const t of [p, w, f]) tree.dispose(t)
    return value
  }

  let m: Tree = tree.map((x: any) => np.zerosLike(x.ref), params)
  let v: Tree = tree.map((x: any) => np.zerosLike(x.ref), params)
  let n = 0
  const gradient = valueAndGrad(loss)
  const update = jit((p: Tree, grads: Tree, m: Tree, v: Tree, s1: any, s2: any) => {
    const m1 = tree.map((m: any, g: any) => m.mul(b1).add(g.mul(1 - b1)), m, tree.ref(grads))
    const v1 = tree.map((v: any, g: any) => v.mul(b2).add(np.square(g).mul(1 - b2)), v, grads)
    const next = tree.map(
      (p: any, m: any, v: any) => {
        const direction = m.mul(s1.ref).div(np.sqrt(v.mul(s2.ref)).add(eps))
        return p.mul(1 - lr * decay).sub(direction.mul(lr))
      },
      p,
      tree.ref(m1),
      tree.ref(v1),
    )
    s1.dispose()
    s2.dispose()
    return [next, m1, v1]
  })
  return async () => {
    n++
    const [value, grads] = gradient(tree.ref(params), tree.ref(w), tree.ref(fixed))
    const corrections = [np.array(1 / (1 - b1 ** n)), np.array(1 / (1 - b2 ** n))]
    ;[params, m, v] = update(params, grads, m, v, ...corrections)
    await blockUntilReady([tree.ref(params), tree.ref(m), tree.ref(v)])
    return (await value.data())[0]
  }
}
