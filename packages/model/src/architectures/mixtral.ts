import type { Config } from '@weftjs/spec'
import type { TransformerConfig } from '../config.ts'
import { type Architecture, type Name, reader } from './architecture.ts'
import { decoderAliases } from './llama.ts'
import { mistral } from './mistral.ts'

type Experts = NonNullable<TransformerConfig['experts']>

export interface ExpertNames {
  /** the module in a file that has a tensor for each expert, and its names of gate, up and down */
  readonly module: string
  readonly parts: readonly [gate: string, up: string, down: string]
}

/** what a decoder with experts has in place of the MLP's names: [E, 2F, D] of gate and up and [E, D, F] in a fused file */
export const expertNames = (names: readonly Name[], e: Experts, { module, parts }: ExpertNames): Name[] => {
  const base = names.find((n) => n.name === 'blocks.{i}.norm1')!.hf.replace('input_layernorm.weight', '')
  const dense = e.layers.map((here) => !here)
  const fused = { gate: ['gate_up_proj', 0, 2], up: ['gate_up_proj', 1, 2], down: ['down_proj', 0, 1] } as const
  const expert = (part: 'gate' | 'up' | 'down', i: number): Name => {
    const [name, at, of] = fused[part]
    return {
      hf: `${base}${module}.experts.{e}.${parts[i]}.weight`,
      name: `blocks.{i}.mlp.experts.{e}.${part}`,
      layers: e.layers,
      fused: { hf: `${base}mlp.experts.${name}`, part: at, parts: of },
    }
  }
  const one = (hf: string, name: string): Name => ({
    hf: `${base}${hf}.weight`,
    name: `blocks.{i}.mlp.${name}`,
    layers: e.layers,
  })
  const own = [
    { ...one(`${module}.gate`, 'router'), ...(module !== 'mlp' && { beside: `${base}mlp.gate.weight` }) },
    ...(['gate', 'up', 'down'] as const).map(expert),
    ...(e.shared
      ? [
          ...['gate', 'up', 'down'].map((n) => one(`mlp.shared_expert.${n}_proj`, `shared.${n}`)),
          one('mlp.shared_expert_gate', 'shared.router'),
        ]
      : []),
  ]
  const isMlp = (n: Name): boolean => n.name.startsWith('blocks.{i}.mlp.')
  const before = names.findLastIndex((n) => n.name.startsWith('blocks.{i}.') && !isMlp(n)) + 1
  const plain = e.layers.every(Boolean) ? [] : names.filter(isMlp).map((n) => ({ ...n, layers: dense }))
  return [...names.slice(0, before), ...plain, ...own, ...names.slice(before).filter((n) => !isMlp(n))]
}

/** @throws Error that names the field, where more experts are taken than there are */
export const expertsOf = (
  source: Config,
  given: Pick<Experts, 'count' | 'hidden' | 'layers' | 'normalized'> & { readonly shared?: number },
  active: number,
): Experts => {
  const r = reader(source)
  if (active > given.count)
    throw new Error(`config.json: num_experts_per_tok (${active}) exceeds the ${given.count} experts; lower it`)
  return {
    ...given,
    active: r.count('num_experts_per_tok', active),
    balance: r.number('router_aux_loss_coef', 0.001),
    balanced: r.flag('output_router_logits', false),
  }
}

/** Mistral with experts in every layer, two of eight for a token  —  Jiang et al., arXiv:2401.04088 */
export const mixtral: Architecture = {
  types: ['mixtral'],
  config: (source) => {
    const r = reader(source)
    const c = mistral.config({
      ...source,
      ...{
        rms_norm_eps: source['rms_norm_eps'] ?? 1e-5,
        max_position_embeddings: source['max_position_embeddings'] ?? 131_072,
      },
    })
    const layers = Array.from({ length: c.layers }, () => true)
    const count = r.count(source['num_local_experts'] === undefined ? 'num_experts' : 'num_local_experts', 8)
    const experts = expertsOf(
      source,
      { count, hidden: c.hidden, layers, normalized: true },
      r.count('num_experts_per_tok', 2),
    )
    const names = expertNames(c.names, experts, { module: 'block_sparse_moe', parts: ['w1', 'w3', 'w2'] })
    return { ...c, experts, names, source }
  },
  aliases: [...decoderAliases, ['block_sparse_moe.', 'mlp.']],
}
