/** The same Llama written plainly in the ops of tfjs-core, as a user of stock tfjs would; no import of ours. */
import type * as Tf from '@tensorflow/tfjs-core'
import { adaptersOf, headWidth, type Shape, tensorsOf, valuesOf } from './shape.ts'

export interface Model {
  readonly trained: Readonly<Record<string, Tf.Variable>>
  /** mean cross-entropy of the next token, ids [T] of one text */
  loss(): Tf.Scalar
}

/** D width, T tokens, H heads, G key-value heads, S head width */
export const model = (tf: typeof Tf, c: Shape, rank: number, ids: Int32Array): Model => {
  const T = ids.length
  const [D, H, G, S] = [c.width, c.heads, c.kvHeads, headWidth(c)]
  const w: Record<string, Tf.Tensor2D> = {}
  for (const [name, shape] of tensorsOf(c)) w[name] = tf.tensor(valuesOf(name, shape), shape as [number, number])
  const trained: Record<string, Tf.Variable> = {}
  for (const [name, shape] of adaptersOf(c, rank)) {
    trained[name] = tf.variable(tf.tensor(valuesOf(name, shape), shape), true, name)
    const b = name.replace('lora_A', 'lora_B')
    const [out] = w[name.replace('lora_A.', '')]!.shape
    trained[b] = tf.variable(tf.zeros([out, rank]), true, b)
  }
  const angles = (f: (x: number) => number): Tf.Tensor =>
    tf.tensor(
      Float32Array.from({ length: (T * S) / 2 }, (_, i) => {
        const [t, j] = [Math.floor(i / (S / 2)), i % (S / 2)]
        return f(t * Math.fround(c.theta ** ((-2 * j) / S)))
      }),
      [1, T, S / 2],
    )
  const [cos, sin] = [angles(Math.cos), angles(Math.sin)]
  const mask = tf.tensor(
    Float32Array.from({ length: T * T }, (_, i) => (i % T > Math.floor(i / T) ? -1e9 : 0)),
    [1, T, T],
  )
  const input = tf.tensor1d(ids, 'int32')
  const targets = tf.tensor1d(ids.slice(1), 'int32')

  const norm = (x: Tf.Tensor, name: string): Tf.Tensor =>
    tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), c.eps))), w[name]!)
  const linear = (x: Tf.Tensor, name: string): Tf.Tensor => {
    const y = tf.matMul(x as Tf.Tensor2D, w[name]!, false, true)
    const a = trained[name.replace('.weight', '.lora_A.weight')]
    const b = trained[name.replace('.weight', '.lora_B.weight')]
    if (!a || !b) return y
    return tf.add(y, tf.matMul(tf.matMul(x as Tf.Tensor2D, a as never, false, true), b as never, false, true))
  }
  /** [T, n·S] → [n, T, S] */
  const heads = (x: Tf.Tensor, n: number): Tf.Tensor => tf.transpose(tf.reshape(x, [T, n, S]), [1, 0, 2])
  const rotate = (x: Tf.Tensor): Tf.Tensor => {
    const [a, b] = tf.split(x, 2, -1) as [Tf.Tensor, Tf.Tensor]
    return tf.concat([tf.sub(tf.mul(a, cos), tf.mul(b, sin)), tf.add(tf.mul(b, cos), tf.mul(a, sin))], -1)
  }
  /** [G, T, S] → [H, T, S] */
  const shared = (x: Tf.Tensor): Tf.Tensor =>
    tf.reshape(tf.tile(tf.reshape(x, [G, 1, T, S]), [1, H / G, 1, 1]), [H, T, S])

  const block = (h: Tf.Tensor, l: string): Tf.Tensor => {
    const x = norm(h, `${l}input_layernorm.weight`)
    const q = rotate(heads(linear(x, `${l}self_attn.q_proj.weight`), H))
    const k = shared(rotate(heads(linear(x, `${l}self_attn.k_proj.weight`), G)))
    const v = shared(heads(linear(x, `${l}self_attn.v_proj.weight`), G))
    const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(S)), mask) // [H, T, T]
    const mixed = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v), [1, 0, 2]), [T, D])
    const g = tf.add(h, linear(mixed, `${l}self_attn.o_proj.weight`))
    const y = norm(g, `${l}post_attention_layernorm.weight`)
    const gate = linear(y, `${l}mlp.gate_proj.weight`)
    const up = linear(y, `${l}mlp.up_proj.weight`)
    return tf.add(g, linear(tf.mul(tf.mul(gate, tf.sigmoid(gate)), up), `${l}mlp.down_proj.weight`))
  }
  const embedding = w['model.embed_tokens.weight']!
  return {
    trained,
    loss: () => {
      let h = tf.gather(embedding, input) as Tf.Tensor // [T, D]
      for (let i = 0; i < c.layers; i++) h = block(h, `model.layers.${i}.`)
      const last = tf.slice(norm(h, 'model.norm.weight'), [0, 0], [T - 1, D])
      const logits = tf.matMul(last as Tf.Tensor2D, embedding, false, true) // [T − 1, V]
      return tf.losses.softmaxCrossEntropy(tf.oneHot(targets, c.vocabulary), logits)
    },
  }
}

/** Adam with decay that its moments do not see, as torch.optim.AdamW does it */
export const adamw = (
  tf: typeof Tf,
  { trained, loss }: Model,
  { lr = 1e-3, decay = 0.01 }: { lr?: number; decay?: number } = {},
): (() => Tf.Scalar) => {
  const optimizer = tf.train.adam(lr, 0.9, 0.999, 1e-8)
  const list = Object.values(trained)
  return () => {
    const { value, grads } = tf.variableGrads(loss, list)
    tf.tidy(() => {
      for (const p of list) p.assign(tf.mul(p, 1 - lr * decay))
      optimizer.applyGradients(grads as never)
    })
    tf.dispose(grads)
    return value
  }
}
