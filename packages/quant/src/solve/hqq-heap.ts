import type { Tensor } from '@weftjs/tensor'
import { addressOf, inParts, output, routines, threads } from '@weftjs/tensor/heap'
import * as module from '../wasm/hqq.generated.ts'
import { floatsAt, roomFor, wordsAt } from './heap.ts'
import type { HalfQuadraticOptions, Rounded } from './hqq.ts'

/** numbers that are worth a thread */
const PART = 2 ** 13

/** `halfQuadratic` in threads over groups, each in one go while it is in the cache; undefined where there is no heap of ours. In a tidy. */
export const onHeap = (
  w: Tensor,
  scale: Tensor,
  zero: Tensor,
  { most, axis, zero: keeps, iterations, norm, beta, kappa }: Required<HalfQuadraticOptions>,
): Rounded | undefined => {
  if (!routines(module)) return undefined
  const [size, count] = axis ? [w.shape[1]!, w.shape[0]!] : [w.shape[0]!, w.shape[1]!]
  const [codes, found] = [output(w.shape), output(zero.shape)]
  const [room, step] = [roomFor(16 * threads() * size), roomFor(16 * threads())]
  const [errors, what] = [roomFor(4 * count), roomFor(64)]
  const [z, y] = [addressOf(found), addressOf(codes)]
  wordsAt(what, 7).set([addressOf(w), addressOf(scale), addressOf(zero), room, size, count, axis ? 0 : 1])
  floatsAt(what + 28, 2).set([most, norm - 1])
  const each = (routine: string, ...rest: number[]): void =>
    inParts(module, routine, { n: Math.ceil(count / 4), least: Math.ceil(PART / (4 * size)) }, (from, n) => [
      ...[what, from, from + n, ...rest],
    ])
  if (keeps === 'best') {
    each('best', iterations, beta, kappa, z, y, step)
    return { codes, zero: found }
  }
  // the mean error of all decides when to stop, and the zero points behind the one that was worse are kept
  floatsAt(z, count).set(floatsAt(addressOf(zero), count))
  wordsAt(what + 8, 1)[0] = z
  for (let i = 0, least = Number.POSITIVE_INFINITY; i < iterations; i++) {
    each('once', beta, errors, z, step)
    const error = Math.fround(floatsAt(errors, count).reduce((a, b) => a + b, 0) / (size * count))
    if (!(error < least)) break
    least = error
  }
  each('rounded', y)
  return { codes, zero: found }
}
