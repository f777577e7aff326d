import { backend as currentBackend, type Tensor, tidy } from '@tensorflow/tfjs-core'
import { engine } from './engine.ts'
import { gradientSoFar, isLive } from './grad.ts'

export type Inputs = Record<string, Tensor | undefined>
/** one tensor, or several in their order */
export type Outputs = Tensor | readonly Tensor[]

/** What a kernel's gradient is given. */
export interface Backward<I extends Inputs, A> {
  /** gradient of the (first) output */
  readonly dy: Tensor
  /** gradients of all outputs in their order; zeros where an output reaches nothing */
  readonly dys: readonly Tensor[]
  /** inputs by name and the (first) output as `y`, as far as `keeps` asked for them */
  readonly saved: { readonly [K in keyof I | 'y']: Tensor } & Readonly<Record<string, Tensor>>
  readonly attrs: A
  /** is the gradient of this input wanted? */
  readonly wants: (input: keyof I & string) => boolean
  /** the gradient of this input from its other uses, where it may be added to in place and returned as the sum of both */
  readonly onto: (input: keyof I & string) => Tensor | undefined
  /** shapes of all inputs, saved or not */
  readonly shapes: { readonly [K in keyof I]: readonly number[] }
}

/** Faster ways to one kernel on one backend. Each may decline a call by returning undefined; then the reference runs. */
export interface Faster<I extends Inputs, A extends object, O extends Outputs = Tensor> {
  readonly forward?: (inputs: I, attrs: A, backend: never) => O | undefined
  /** in place of `forward` while training: what it saves stands in `saved` beside what `keeps` asks for */
  readonly ahead?: (
    inputs: I,
    attrs: A,
    backend: never,
  ) => { y: O; saved: Readonly<Record<string, Tensor>> } | undefined
  /** given the same as `gradient` */
  readonly gradient?: (b: Backward<I, A>, backend: never) => Partial<Record<keyof I, Tensor>> | undefined
}

/** `O` is a tuple for a kernel of several outputs; then `plain` and whatever stands in its place return all of them. */
export interface KernelDefinition<I extends Inputs, A extends object, O extends Outputs = Tensor> {
  readonly name: string
  /** the reference, in ops that every backend has; run off the tape where `gradient` is given */
  readonly plain: (inputs: I, attrs: A) => O
  /** gradients of the wanted inputs; without it `plain` itself is differentiated, op by op */
  readonly gradient?: (b: Backward<I, A>) => Partial<Record<keyof I, Tensor>>
  /** what the gradient reads, given which inputs are trained: names of inputs, `y` for the (first) output. Default: all inputs */
  readonly keeps?: (wants: (input: keyof I & string) => boolean) => readonly (keyof I | 'y')[]
  /**
   * forward and backward in one pass, where the gradient needs nothing but a factor dy later: used in place of `plain`
   * while training; what it saves stands in `saved` beside what `keeps` asks for
   */
  readonly ahead?: (
    inputs: I,
    attrs: A,
    wants: (input: keyof I & string) => boolean,
  ) => { y: O; saved: Readonly<Record<string, Tensor>> }
  /** faster ways, by the backend's name; return undefined to decline a call. `accelerate` adds more as a backend starts */
  readonly on?: Readonly<Record<string, NonNullable<Faster<I, A, O>['forward']>>>
  /** and to its gradient */
  readonly onGradient?: Readonly<Record<string, NonNullable<Faster<I, A, O>['gradient']>>>
}

/** `plain: true` forces the reference everywhere (tests, doubts, comparisons) */
export const kernels: { plain: boolean } = { plain: false }

type AnyFaster = Faster<any, any, any>
const later = new Map<string, Readonly<Record<string, AnyFaster>>>()

/** Faster kernels by name that come with a backend, so that a bundle without the backend does not carry them. */
export const accelerate = (backendName: string, byKernel: Readonly<Record<string, AnyFaster>>): void => {
  later.set(backendName, { ...later.get(backendName), ...byKernel })
}

/**
 * An op with a plain-op reference, a gradient that says what it keeps, and faster versions per backend.
 * Any tfjs backend that a user registers works through the reference.
 */
export const defineKernel = <I extends Inputs, A extends object = Record<never, never>, O extends Outputs = Tensor>(
  kernel: KernelDefinition<I, A, O>,
): ((inputs: I, attrs: A) => O) => {
  const none: Faster<I, A, O> = {}
  const faster = (): Faster<I, A, O> => {
    if (kernels.plain) return none
    const { backendName } = engine()
    const added: Faster<I, A, O> = later.get(backendName)?.[kernel.name] ?? none
    const forward = kernel.on?.[backendName]
    const gradient = kernel.onGradient?.[backendName]
    return forward || gradient ? { ...added, ...(forward && { forward }), ...(gradient && { gradient }) } : added
  }
  const forward = (inputs: I, attrs: A, backend: unknown): O =>
    faster().forward?.(inputs, attrs, backend as never) ?? kernel.plain(inputs, attrs)
  const { gradient } = kernel
  const backward = (b: Backward<I, A>): Partial<Record<keyof I, Tensor>> =>
    faster().gradient?.(b, currentBackend() as never) ?? gradient!(b)
  return (inputs, attrs) => {
    const given: Record<string, Tensor> = {}
    for (const name in inputs) if (inputs[name]) given[name] = inputs[name]
    const names = Object.keys(given)
    const trained = new Set(names.filter((n) => isLive(given[n]!)))
    if (!gradient && trained.size) return kernel.plain(inputs, attrs)
    const wants = (input: string): boolean => trained.has(input)
    const kept = (kernel.keeps?.(wants) ?? names).filter((n) => n === 'y' || given[n as string]) as string[]
    let early: readonly string[] = []
    return engine().runKernelFunc({
      label: kernel.name,
      inputs: given,
      attrs,
      forwardFunc: (backend, save) => {
        if (!trained.size) return forward(inputs, attrs, backend) as Tensor | Tensor[]
        const both = faster().ahead?.(inputs, attrs, backend as never) ?? kernel.ahead?.(inputs, attrs, wants)
        const { y, saved } = both ?? { y: forward(inputs, attrs, backend), saved: {} }
        early = Object.keys(saved)
        const first = (Array.isArray(y) ? y[0] : y) as Tensor
        save([...kept.map((n) => (n === 'y' ? first : given[n]!)), ...Object.values(saved)])
        return y as Tensor | Tensor[]
      },
      backwardsFunc: (slopes, saved) => {
        const dys = [slopes].flat()
        const found = tidy(
          () =>
            backward({
              dy: dys[0]!,
              dys,
              saved: Object.fromEntries([...kept, ...early].map((n, i) => [n, saved[i]!])) as never,
              attrs,
              wants,
              onto: (input) => gradientSoFar(given[input]!),
              shapes: Object.fromEntries(names.map((n) => [n, given[n]!.shape])) as never,
            }) as Record<string, Tensor>,
        )
        return Object.fromEntries(
          names.map((n) => [
            n,
            () => {
              if (!found[n]) throw new Error(`${kernel.name}: its gradient gave nothing for '${n}'`)
              return found[n]
            },
          ]),
        )
      },
    }) as O
  }
}
