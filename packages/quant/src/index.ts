export { bf16 } from './bf16.ts'
export {
  type BnbDtype,
  type BnbOptions,
  type BnbWriter,
  bnbWriter,
  fromBnb,
  quantizationConfig,
  toBnb,
} from './bnb.ts'
export { type Dynamic8Options, type Dynamic8Parts, dynamic8 } from './dynamic8.ts'
export { f16 } from './f16.ts'
export { type Fp4Options, fp4 } from './fp4.ts'
export { fromHalf } from './half.ts'
export { type Int8Options, type Int8Parts, int8 } from './int8.ts'
export type { FourBitOptions, FourBitParts, Nested } from './kernels/four-bit.ts'
export type { HalfParts } from './kernels/half.ts'
export { type Nf4Options, nf4 } from './nf4.ts'
export { type QuantizeOptions, quantize, type Which } from './quantize.ts'
