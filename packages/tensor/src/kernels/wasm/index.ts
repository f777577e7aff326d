import { routines } from '../../heap.ts'
import { accelerate } from '../../kernel.ts'
import { drawOn } from '../../rng.ts'
import * as module from '../../wasm/norm.generated.ts'
import { passOn } from '../cross-entropy.ts'
import { inPlaceOn } from '../in-place.ts'
import { productOn } from '../product.ts'
import { writeRowsOn } from '../write-rows.ts'
import { activate, glu, replaceTanh } from './activation.ts'
import { inPlace } from './adamw.ts'
import { attention } from './attention.ts'
import { blockDiagonal, blockOuter } from './block-diagonal.ts'
import { crossEntropyOnHeap } from './cross-entropy.ts'
import { gatherRows } from './gather.ts'
import { addLayerNorm, addRmsNorm, layerNorm, rmsNorm } from './norm.ts'
import { productOnHeap } from './product.ts'
import { drawOnHeap } from './random.ts'
import { rotary, rotaryHeads } from './rotary.ts'
import { replaceShapeOps } from './shape.ts'
import { addAt, linearSparse, takeAt } from './sparse.ts'
import { walsh } from './walsh.ts'
import { writeRows } from './write-rows.ts'

/** Fused kernels on the wasm heap in the place of composed ops; nothing changes where the engine cannot run them. */
export const installHeapKernels = (): void => {
  productOn['wasm'] = productOnHeap
  if (!routines(module)) return
  drawOn['wasm'] = drawOnHeap
  inPlaceOn['wasm'] = inPlace
  writeRowsOn['wasm'] = writeRows
  passOn['wasm'] = crossEntropyOnHeap
  accelerate('wasm', {
    BlockDiagonal: blockDiagonal,
    BlockOuter: blockOuter,
    GatherRows: gatherRows,
    RmsNorm: rmsNorm,
    LayerNorm: layerNorm,
    AddRmsNorm: addRmsNorm,
    AddLayerNorm: addLayerNorm,
    Rotary: rotary,
    RotaryHeads: rotaryHeads,
    Activation: activate,
    Glu: glu,
    Attention: attention,
    CachedAttention: { forward: attention.forward! },
    LinearSparse: linearSparse,
    AddAt: addAt,
    TakeAt: takeAt,
    WalshHadamard: walsh,
  })
  replaceShapeOps()
  replaceTanh()
}
