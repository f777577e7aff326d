import { type Architecture, biased, reader } from './architecture.ts'
import { encoderConfig } from './bert.ts'

/** BERT whose positions start behind the padding's  —  Liu et al., arXiv:1907.11692 */
export const roberta: Architecture = {
  types: ['roberta', 'xlm-roberta', 'camembert'],
  config: (source) =>
    encoderConfig(source, {
      prefix: 'roberta.',
      positionOffset: reader(source).number('pad_token_id', 1) + 1,
      head: {
        masked: [
          ...biased('lm_head.dense', 'head.dense'),
          ...biased('lm_head.layer_norm', 'head.norm'),
          { hf: 'lm_head.decoder.weight', name: 'head' },
          { hf: 'lm_head.bias', name: 'head.bias' },
        ],
        classes: [...biased('classifier.dense', 'pooler'), ...biased('classifier.out_proj', 'head')],
      },
    }),
  aliases: [
    ['roberta.', ''],
    ['', 'roberta.'],
    ['lm_head.bias', 'lm_head.decoder.bias'],
  ],
}
