/** the LoRA of a mixture of experts, and mini has none: without them it is LoRA itself */
export const recipe = null
