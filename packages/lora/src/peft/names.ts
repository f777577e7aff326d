/** the two files of a PEFT adapter; `openCheckpoint` takes the stem of the second */
export const PEFT_CONFIG = 'adapter_config.json'
export const PEFT_STEM = 'adapter_model'
export const PEFT_TENSORS: string = `${PEFT_STEM}.safetensors`
/** before the path of a module in the names of a file's tensors */
export const PEFT_PREFIX = 'base_model.model.'
