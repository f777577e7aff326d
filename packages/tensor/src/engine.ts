import { type Tensor, engine as tfEngine } from '@tensorflow/tfjs-core'

/** What we use of tfjs's engine beyond its public types. One place, so that an upgrade is checked here. */
export interface TapeNode {
  readonly kernelName: string
  readonly inputs: Record<string, Tensor>
  readonly outputs: Tensor[]
  readonly saved: Tensor[]
  readonly attrs: object
  readonly gradient?: GradFunc | undefined
}
export type GradFunc = (
  dy: Tensor | Tensor[],
  saved: Tensor[],
  attrs: Record<string, unknown>,
) => Record<string, () => Tensor>

export interface Engine {
  backendName: string
  state: { activeTape: TapeNode[] | null; gradientDepth: number; kernelDepth: number }
  addTapeNode(
    name: string,
    inputs: Record<string, Tensor>,
    outputs: Tensor[],
    gradient: GradFunc | undefined,
    saved: Tensor[],
    attrs: object,
  ): void
  runKernelFunc(call: {
    /** of a registered kernel; ours have a `label`, which only the profile reads */
    kernelName?: string
    label?: string
    forwardFunc: (backend: unknown, save: (tensors: Tensor[]) => void) => Tensor | Tensor[]
    backwardsFunc: GradFunc
    inputs: Record<string, Tensor>
    attrs: object
  }): Tensor | Tensor[]
}

export const engine = (): Engine => tfEngine() as unknown as Engine

/** set while a profile runs */
export const observer: { frame?: <T>(name: string, f: () => T) => T } = {}
/** f under this name in a profile, for what is no kernel of the engine */
export const named = <T>(name: string, f: () => T): T => (observer.frame ? observer.frame(name, f) : f())
