import { lora } from '@weftjs/lora/lora'
import { attach, complete, inputsOf, nextToken, transLora } from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, train } from '@weftjs/optim'
import type { Batch, Params } from '@weftjs/spec'
import { dispose, rng } from '@weftjs/tensor'
import { batchOf, type Claim, LINEARS, STEPS } from '../lab.ts'

/** a way to make data, on which any method trains */
export const recipe = null

const at = LINEARS
const PROMPT = 12
const ANSWER = 36

export const claim: Claim = {
  says: 'An adapter passes to another on inputs that the base itself makes from five seeds, without the task’s data',
  metric: 'loss of the base on the task less that of the student, less a quarter of the teacher’s own gain',
  margin: async (seed, lab) => {
    const { tokenizer } = lab
    const learn = async (name: string, data: readonly Batch[]) => {
      const tuned = attach(lab.network, [{ adapter: lora({ rank: 8, alpha: 16 }), at }], rng(seed).fork(name))
      let params: Params = tuned.params
      const transform = chain(clipByGlobalNorm(1), adamw({ lr: 3e-3, weightDecay: 0 }))
      const loss = (p: Params, b: Batch) => nextToken(tuned.run(p, inputsOf(b)), b)
      for await (const step of train({ params, transform, data, loss, seed })) params = step.params
      return { tuned, params }
    }
    const base = attach(lab.network, [], rng(0))
    const teacher = await learn(
      'teacher',
      Array.from({ length: STEPS }, (_, i) => lab.task.batch(seed, i)),
    )
    // what is kept of the task: the beginnings of five texts
    const seeds = Array.from({ length: 5 }, (_, i) =>
      tokenizer.decode([...lab.task.batch(seed, i).ids.slice(0, PROMPT)]),
    )
    const { examples } = await transLora(
      seeds,
      {
        generate: async ([near], r) => {
          const words = near!.split(' ')
          const [made] = await complete(base, [words.slice(0, 3).join(' ')], {
            tokenizer,
            maxTokens: PROMPT,
            temperature: 1,
            seed: Math.floor(r.numbers(1)[0]! * 2 ** 31),
          })
          return words.slice(0, 3).join(' ') + made!.text
        },
        teach: async (input) => {
          const [answer] = await complete(teacher.tuned, [input], {
            tokenizer,
            params: teacher.params,
            maxTokens: ANSWER,
            temperature: 0,
          })
          return answer!.text
        },
      },
      rng(seed),
      { count: 24 },
    )
    const rows = examples.map(({ input, output }) => tokenizer.encode(input + output)).filter((ids) => ids.length > 33)
    const batches = Array.from({ length: STEPS }, (_, i) =>
      batchOf(Array.from({ length: 8 }, (_, r) => rows[(i * 8 + r) % rows.length]!.slice(0, 33))),
    )
    const student = await learn('student', batches)
    const [none, taught, own] = [
      await lab.loss(base, {}, lab.task.test),
      await lab.loss(student.tuned, student.params, lab.task.test),
      await lab.loss(teacher.tuned, teacher.params, lab.task.test),
    ]
    dispose([...Object.values(student.params), ...Object.values(teacher.params)])
    return none - taught - (none - own) / 4
  },
}
