import { backend } from '@tensorflow/tfjs-core'
import { decodedOn } from '../../decoded.ts'
import { accelerate } from '../../kernel.ts'
import { rowsOn } from '../cross-entropy.ts'
import { inPlaceOn } from '../in-place.ts'
import { productOn } from '../product.ts'
import { writeRowsOn } from '../write-rows.ts'
import { activate, glu } from './activation.ts'
import { attention, cachedAttention } from './attention.ts'
import { rowsOnGpu } from './cross-entropy.ts'
import { replaceInexact } from './exact.ts'
import { gatherRows } from './gather.ts'
import { inPlace } from './in-place.ts'
import { decodedOnGpu, productOnGpu, replaceMatMul } from './matmul.ts'
import { addLayerNorm, addRmsNorm, layerNorm, rmsNorm } from './norm.ts'
import type { Gpu } from './program.ts'
import { rotary, rotaryHeads } from './rotary.ts'
import { writeRowsOnGpu } from './write-rows.ts'

let done = false

/** Our shaders in the place of composed ops, and our matrix product in the place of tfjs's; loaded as WebGPU starts. */
export const installShaders = (): void => {
  if (done) return
  done = true
  accelerate('webgpu', {
    RmsNorm: rmsNorm,
    LayerNorm: layerNorm,
    AddRmsNorm: addRmsNorm,
    AddLayerNorm: addLayerNorm,
    Rotary: rotary,
    RotaryHeads: rotaryHeads,
    GatherRows: gatherRows,
    Activation: activate,
    Glu: glu,
    Attention: attention,
    CachedAttention: cachedAttention,
  })
  rowsOn['webgpu'] = (z, targets, weights, slope) => rowsOnGpu(backend() as unknown as Gpu, z, targets, weights, slope)
  inPlaceOn['webgpu'] = inPlace
  productOn['webgpu'] = productOnGpu
  decodedOn['webgpu'] = decodedOnGpu
  writeRowsOn['webgpu'] = (pairs, at) => writeRowsOnGpu(backend() as unknown as Gpu, pairs, at)
  replaceMatMul()
  replaceInexact()
}
