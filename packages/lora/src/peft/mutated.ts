import type { PeftConfig } from './config.ts'
import type { Field, Held, PeftFormat } from './format.ts'
import { loraFields, loraInert } from './formats/lora.ts'

const { rank, alpha, rslora, dropout } = loraFields
/** fields of a LoRA that starts in its own way, `init` being its value of `init_lora_weights` */
export const startFields = (init: string): Readonly<Record<string, Field>> => ({
  ...{ rank, alpha, rslora, dropout },
  init: {
    ...{ key: 'init_lora_weights', test: (v) => typeof v === 'string', wanted: JSON.stringify(init) },
    ...{ read: () => undefined, write: () => init, start: true },
  },
})
export const startInert: Readonly<Record<string, readonly unknown[]>> = { ...loraInert, lora_bias: [false] }

/** is this the start of that name, exactly or by a randomized SVD? */
export const startsAs =
  (init: string): NonNullable<PeftFormat['when']> =>
  ({ init_lora_weights: found }) =>
    found === init || (typeof found === 'string' && found.startsWith(`${init}_niter_`))

/** @throws Error for a config that does not tell the base which trained: `why`, or a randomized start */
export const mustBeFound =
  (init: string, why?: string) =>
  ({ init_lora_weights: found }: PeftConfig): void => {
    if (found === init && !why) return
    throw new Error(
      `adapter_config.json: init_lora_weights is ${JSON.stringify(found)}: training began from a base of its own, which ${why ?? 'a randomized SVD made'} and this file does not hold. Save the adapter where it was trained as a plain LoRA: save_pretrained(..., path_initial_model_for_weight_conversion=...) in PEFT, asPlainLora here`,
    )
  }

/** @throws Error for a site where PEFT would not find the same base again */
export const mustBeAgain = (held: readonly Held[], { turned = false }: { turned?: boolean } = {}): void => {
  for (const { site, adapter } of held) {
    const plain = `save it as a plain LoRA (asPlainLora)`
    if (site.kind === 'embed') throw new Error(`${site.name}: PEFT has no '${adapter.name}' for an embedding; ${plain}`)
    if (site.transposed && !turned)
      throw new Error(`${site.name}: PEFT has no '${adapter.name}' for a Conv1D; ${plain}`)
    if (site.weight!.codec)
      throw new Error(
        `${site.name}: '${adapter.name}' began from a base that was rounded to ${site.weight!.format} anew, which PEFT would not find; save that base with a plain LoRA for it (onOwnBase), or fold the adapter and save the model`,
      )
  }
}

/** @throws Error always: for starts that PEFT finds only where its own calibration is at hand */
export const mustBeConverted = (held: readonly Held[]): never => {
  const [{ site, adapter }] = held as [Held]
  throw new Error(
    `${site.name}: a PEFT file does not hold the base that '${adapter.name}' began from; save it as a plain LoRA for the original base: readyLora(await asPlainLora(tuned, { params }))`,
  )
}
