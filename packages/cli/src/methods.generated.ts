// Written by `npm run generate` from the families' docstrings.

export interface Method {
  readonly name: string
  readonly family: string
  /** what it computes, in a line */
  readonly equation: string
  /** authors and arXiv number, or the format's definition */
  readonly paper: string
  readonly file: string
  readonly subpath: string
}

export const methods: readonly Method[] = [
  {
    name: 'lora',
    family: 'lora',
    equation: 'W + (α/r)·B·A, A random, B zero',
    paper: 'Hu et al., arXiv:2106.09685',
    file: 'packages/lora/src/lora.ts',
    subpath: '@weftjs/lora/lora',
  },
  {
    name: 'dynamic8',
    family: 'quant',
    equation: 'Levels of a map that is fine near zero, by blocks: 8 + 32/block bits a number',
    paper: 'Dettmers et al., arXiv:2110.02861',
    file: 'packages/quant/src/dynamic8.ts',
    subpath: '@weftjs/quant/dynamic8',
  },
  {
    name: 'fp4',
    family: 'quant',
    equation: "4-bit floats times the block's largest magnitude, as bitsandbytes has them",
    paper: 'Dettmers et al., arXiv:2305.14314',
    file: 'packages/quant/src/fp4.ts',
    subpath: '@weftjs/quant/fp4',
  },
  {
    name: 'int8',
    family: 'quant',
    equation: 'round(127·W/max|row|): 8 + 32/in bits a weight',
    paper: 'the weights of Dettmers et al., arXiv:2208.07339',
    file: 'packages/quant/src/int8.ts',
    subpath: '@weftjs/quant/int8',
  },
  {
    name: 'nf4',
    family: 'quant',
    equation: "Nearest of 16 normal quantiles times the block's largest magnitude: 4.5 bits a weight, 4.127 double",
    paper: 'Dettmers et al., arXiv:2305.14314',
    file: 'packages/quant/src/nf4.ts',
    subpath: '@weftjs/quant/nf4',
  },
  {
    name: 'scaleByAdam',
    family: 'optim',
    equation: 'm̂/(√v̂ + ε), moments of g and g² corrected for their start at zero',
    paper: 'Kingma & Ba, arXiv:1412.6980',
    file: 'packages/optim/src/adamw.ts',
    subpath: '@weftjs/optim/adamw',
  },
  {
    name: 'adamw',
    family: 'optim',
    equation: 'p − lr·(m̂/(√v̂ + ε) + λ·p), as torch.optim.AdamW',
    paper: 'Loshchilov & Hutter, arXiv:1711.05101',
    file: 'packages/optim/src/adamw.ts',
    subpath: '@weftjs/optim/adamw',
  },
  {
    name: 'cosine',
    family: 'optim',
    equation: 'to 0 at the last step along half a cosine',
    paper: 'Loshchilov & Hutter, arXiv:1608.03983',
    file: 'packages/optim/src/schedule.ts',
    subpath: '@weftjs/optim/schedule',
  },
  {
    name: 'wsd',
    family: 'optim',
    equation: 'warm-up, stable, decay: constant until the last `decay` steps, then to 0 along a line',
    paper: 'Hu et al., arXiv:2404.06395',
    file: 'packages/optim/src/schedule.ts',
    subpath: '@weftjs/optim/schedule',
  },
  {
    name: 'sgd',
    family: 'optim',
    equation: 'p − lr·b with momentum and coupled decay, as torch.optim.SGD',
    paper: 'Sutskever et al., ICML 2013',
    file: 'packages/optim/src/sgd.ts',
    subpath: '@weftjs/optim/sgd',
  },
  {
    name: 'addDecayedWeights',
    family: 'optim',
    equation: 'u + λ·p: decay that is not seen by the moments before it',
    paper: 'Loshchilov & Hutter, arXiv:1711.05101',
    file: 'packages/optim/src/transform.ts',
    subpath: '@weftjs/optim/transform',
  },
  {
    name: 'chat',
    family: 'data',
    equation: "conversations by the model's chat template, the loss on the assistant's turns only",
    paper: 'chat templates of Hugging Face transformers',
    file: 'packages/data/src/chat.ts',
    subpath: '@weftjs/data/chat',
  },
  {
    name: 'completion',
    family: 'data',
    equation: 'prompt and completion joined, the loss on the completion and its EOS only',
    paper: "as TRL's SFTTrainer",
    file: 'packages/data/src/completion.ts',
    subpath: '@weftjs/data/completion',
  },
  {
    name: 'csv',
    family: 'data',
    equation: 'rows of a CSV file with a header, all values strings; streaming',
    paper: 'RFC 4180',
    file: 'packages/data/src/csv.ts',
    subpath: '@weftjs/data/csv',
  },
  {
    name: 'ids',
    family: 'data',
    equation: 'rows {input_ids, labels?} as they are, in their order; -100 masks',
    paper: "Weft's prepared format, fields as in Hugging Face datasets",
    file: 'packages/data/src/ids.ts',
    subpath: '@weftjs/data/ids',
  },
  {
    name: 'json',
    family: 'data',
    equation: 'rows of a JSON file that is an array of objects',
    paper: 'RFC 8259',
    file: 'packages/data/src/json.ts',
    subpath: '@weftjs/data/json',
  },
  {
    name: 'jsonl',
    family: 'data',
    equation: 'rows of a file with one JSON object a line; streaming',
    paper: 'JSON Lines, RFC 8259',
    file: 'packages/data/src/jsonl.ts',
    subpath: '@weftjs/data/jsonl',
  },
  {
    name: 'pack',
    family: 'data',
    equation: 'several examples to a row, each a segment with positions from 0 that sees only itself',
    paper: 'Krell et al., arXiv:2107.02027',
    file: 'packages/data/src/pack.ts',
    subpath: '@weftjs/data/pack',
  },
  {
    name: 'parquet',
    family: 'data',
    equation: 'rows of a Parquet file, one row group at a time',
    paper: 'Apache Parquet',
    file: 'packages/data/src/parquet.ts',
    subpath: '@weftjs/data/parquet',
  },
  {
    name: 'textExamples',
    family: 'data',
    equation: 'windows of documents in which each token is a target once',
    paper: 'Bengio et al., JMLR 2003',
    file: 'packages/data/src/text-examples.ts',
    subpath: '@weftjs/data/text-examples',
  },
  {
    name: 'text',
    family: 'data',
    equation: 'plain text as rows {text}',
    paper: 'UTF-8, RFC 3629',
    file: 'packages/data/src/text.ts',
    subpath: '@weftjs/data/text',
  },
]
