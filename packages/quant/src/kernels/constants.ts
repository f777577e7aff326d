import type { PartLayout } from '@weftjs/spec'
import { clone, reshape, type Tensor, type Tensor2D } from '@weftjs/tensor'
import { bf16 } from '../bf16.ts'
import { f16 } from '../f16.ts'
import { codes, numbers } from './layout.ts'

/** How scales and zero points are kept: as checkpoints name their dtypes. */
export type ConstantsDtype = 'F32' | 'F16' | 'BF16'
export interface Constants {
  /** n numbers, rounded to the dtype, as a part: float32 [n], or two to an int32 word [⌈n/2⌉] */
  readonly part: (x: Tensor) => Tensor
  /** the part as float32 [n] */
  readonly read: (part: Tensor, n: number) => Tensor
  readonly layout: (n: number) => PartLayout
}

/** @throws Error for a dtype that is none of the three */
export const constants = (codec: string, dtype: ConstantsDtype): Constants => {
  if (dtype === 'F32') return { part: (x) => reshape(clone(x), [-1]), read: (part) => clone(part), layout: numbers }
  if (dtype !== 'F16' && dtype !== 'BF16')
    throw new Error(`${codec}: dtype must be 'F32', 'F16' or 'BF16', found ${JSON.stringify(dtype)}`)
  const half = dtype === 'F16' ? f16() : bf16()
  return {
    part: (x) => half.encode(reshape(x, [1, -1]) as Tensor2D).q,
    read: (q, n) => reshape(half.decode({ q }, [1, n]), [n]),
    layout: (n) => codes(16, n),
  }
}
