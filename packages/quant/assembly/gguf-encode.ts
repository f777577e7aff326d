/**
 * Rows of float32 → ggml's blocks, to the last bit as src/gguf/blocks has it. Of all routines: `x` the first of `rows` of
 * `width` numbers, `columns` the importance of each column or 0, `q` where blocks go, `scratch` of 4096 bytes a thread.
 */
export { toIq4nl } from './gguf-encode/iq4'
export { toIq4xs, toQ2k, toQ3k, toQ4k, toQ5k, toQ6k } from './gguf-encode/k'
export { toQ40, toQ41, toQ50, toQ51, toQ80 } from './gguf-encode/legacy'
export { toBf16, toF16, toF32 } from './gguf-encode/plain'
export { toMxfp4, toTq20 } from './gguf-encode/small'
