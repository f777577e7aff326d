import type * as Tf from '@tensorflow/tfjs-core'

/** least time of a unit of one case, so that timers and ticks do not matter */
const UNIT = 250

type Given = Tf.Tensor | Tf.Tensor[]
const free = (given: Given): void => {
  for (const t of [given].flat()) t.dispose()
}

/** ms of a call: as many calls as take a while, and on a GPU one wait for all of them */
export const perCall = async (run: () => Given, gpu: boolean, calls: number): Promise<number> => {
  const begun = performance.now()
  let last: Given | undefined
  for (let i = 0; i < calls; i++) {
    if (last) free(last)
    last = run()
  }
  if (gpu) await [last!].flat().at(-1)!.data()
  const ms = (performance.now() - begun) / calls
  free(last!)
  return ms
}

/** how many calls fill a unit; the first ones compile and warm */
export const callsFor = async (run: () => Given, gpu: boolean): Promise<number> => {
  await perCall(run, gpu, 1)
  const once = Math.min(await perCall(run, gpu, 2), await perCall(run, gpu, 2))
  return Math.max(1, Math.min(2000, Math.round(UNIT / once)))
}
