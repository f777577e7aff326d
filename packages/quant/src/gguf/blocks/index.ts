import type { Block, GgmlType } from '../types.ts'
import { bf16 } from './bf16.ts'
import { f16 } from './f16.ts'
import { f32 } from './f32.ts'
import { iq4_nl } from './iq4-nl.ts'
import { iq4_xs } from './iq4-xs.ts'
import { mxfp4 } from './mxfp4.ts'
import { nvfp4 } from './nvfp4.ts'
import { q1_0 } from './q1-0.ts'
import { q2_k } from './q2-k.ts'
import { q3_k } from './q3-k.ts'
import { q4_0 } from './q4-0.ts'
import { q4_1 } from './q4-1.ts'
import { q4_k } from './q4-k.ts'
import { q5_0 } from './q5-0.ts'
import { q5_1 } from './q5-1.ts'
import { q5_k } from './q5-k.ts'
import { q6_k } from './q6-k.ts'
import { q8_0 } from './q8-0.ts'
import { q8_1 } from './q8-1.ts'
import { q8_k } from './q8-k.ts'
import { tq1_0 } from './tq1-0.ts'
import { tq2_0 } from './tq2-0.ts'

/** The types of ggml that are known here, one file each, but for those of `loadGgufTypes`. */
export const blocks: readonly Block[] = [
  ...[f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs],
  ...[tq1_0, tq2_0, mxfp4, nvfp4, q1_0, q8_1, q8_k],
]

const byType: Map<string, Block> = new Map(blocks.map((block) => [block.type, block]))

const GRIDDED: readonly GgmlType[] = ['IQ2_XXS', 'IQ2_XS', 'IQ2_S', 'IQ3_XXS', 'IQ3_S', 'IQ1_S', 'IQ1_M']
/**
 * Types that `gguf` decodes by tables of their own (IQ1, IQ2 and IQ3 can be read and not made) are loaded where one is among
 * `types`. Reading a checkpoint does it; who makes such a codec alone calls it first.
 */
export const loadGgufTypes = async (types: Iterable<unknown> = GRIDDED): Promise<void> => {
  if (![...types].some((type) => GRIDDED.includes(type as GgmlType) && !byType.has(type as GgmlType))) return
  const { griddedBlocks } = await import('./gridded.ts')
  for (const block of griddedBlocks) byType.set(block.type, block)
}

/**
 * By ggml's name.
 * @throws Error for a type that is not known here, with those that are
 */
export const blockOf = (type: string): Block => {
  const block = byType.get(type)
  if (block) return block
  if (GRIDDED.includes(type as GgmlType))
    throw new Error(
      `gguf: ${type} can be read and not made here, and its tables are loaded apart; await loadGgufTypes() first, or take one of ${writable.join(', ')}`,
    )
  throw new Error(
    `gguf: type ${JSON.stringify(type)} cannot be read here; known are ${[...byType.keys(), ...GRIDDED].join(', ')}`,
  )
}
/** types that `quantize` can make */
export const writable: readonly GgmlType[] = blocks.flatMap((b) => (b.quantize ? [b.type as GgmlType] : []))
