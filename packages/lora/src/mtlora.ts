import type { Adapter, RunContext, Site, Tensor, Tensor2D, Tensor3D } from '@weftjs/spec'
import { add, gather, linear, matMul, mul, stack, tile, zeros } from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { kaiming, mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'

export interface MtloraOptions {
  /** of the update that all tasks share */
  readonly rank?: number
  /** number of tasks that branch off in the last block; none: LoRA */
  readonly tasks?: number
  /** of each task's update */
  readonly taskRank?: number
  /** factors of the updates, not divided by a rank */
  readonly scale?: number
  readonly taskScale?: number
  /** a task's output has the shared update as well (the paper's v2) */
  readonly addShared?: boolean
  /** chance that an input of the shared update is dropped while training, where no task branches off */
  readonly dropout?: number
}
export interface MtloraState extends Record<string, Tensor> {
  /** shared A [r, in] */
  a: Tensor2D
  /** shared B [out, r] */
  b: Tensor2D
  /** A of every task [tasks, r, in], in the last block from the attention's output on */
  at: Tensor3D
  /** B of every task [tasks, out, r] */
  bt: Tensor3D
}

/** before a task's stream begins there is nothing of its own to adapt */
const BRANCHES = /^(.*)\.(attn\.o|mlp\.[a-z]+)$/

/** numbers that train at a site: r·(in + out), and r·(in + out) of each task where tasks branch off */
export const trainable = (site: Site, { rank = 64, tasks = 0, taskRank = 4 }: MtloraOptions = {}, last = -1): number =>
  site.kind === 'block'
    ? 0
    : (rank + (site.layer === last && BRANCHES.test(site.name) ? tasks * taskRank : 0)) * (site.in + site.out)

/**
 * W·x + s·B·A·x for all tasks, and W·x + sₜ·Bₜ·Aₜ·xₜ for each in the last block  —  Agiza et al., arXiv:2403.20320
 *
 * The frozen matrix always reads the shared stream x, a task's own factors the stream xₜ, which begins at the attention's
 * output and ends with the block. `inputs.task` [B] int32 (or [1], for all) says whose stream each row of the batch leaves with; where there
 * is one task it may be left out. The block runs twice, once for either stream: that is the method's mathematics.
 */
export const mtlora = (options: MtloraOptions = {}): Adapter<MtloraState> => {
  const { rank = 64, tasks = 0, taskRank = 4, scale: s = 4, taskScale = 4, addShared = false, dropout = 0 } = options
  mustBeWhole('mtlora', 'tasks', tasks, 0)
  mustBeWhole('mtlora', 'taskRank', taskRank)
  mustBeNumber('mtlora: scale', s)
  mustBeNumber('mtlora: taskScale', taskScale)
  mustBeChance('mtlora: dropout', dropout)
  const shared = ({ a, b }: MtloraState, x: Tensor): Tensor => mul(linear(linear(x, a), b), s)
  /** x [B, T, in] by the factors of each row's task → [B, T, out] */
  const own = ({ at, bt }: MtloraState, x: Tensor, task: Tensor): Tensor => {
    const of = (t: Tensor): Tensor => gather(t, task as never) // [B, ...]
    return mul(matMul(matMul(x, of(at), false, true), of(bt), false, true), taskScale)
  }
  const taskOf = ({ inputs, site }: RunContext, rows: number): Tensor => {
    const { task } = inputs
    if (task && ((task.size !== rows && task.size !== 1) || task.rank !== 1 || task.dtype !== 'int32'))
      throw new Error(
        `${site.name}: 'task' is [${task.shape}] of ${task.dtype}; give the number of each row's task, [${rows}] of int32`,
      )
    if (!task && tasks > 1)
      throw new Error(
        `${site.name}: ${tasks} tasks branch off here, and the inputs have no 'task'; give the number of each row's task, [${rows}] of int32`,
      )
    if (!task) return zeros([rows], 'int32')
    return task.size === rows ? task : tile(task, [rows])
  }
  /** the shared stream first, which leaves what the frozen matrices gave; then each row's own */
  const streams = (next: (x: Tensor) => Tensor, x: Tensor, ctx: RunContext): Tensor => {
    const task = taskOf(ctx, x.shape[0]!)
    next(x)
    ctx.scratch.set(`${ctx.site.name}.task`, task)
    const y = next(x)
    ctx.scratch.delete(`${ctx.site.name}.task`)
    return y
  }
  const update = (state: MtloraState): ReturnType<typeof lowRank> => scale(s, lowRank(state.b, state.a))
  return {
    name: 'mtlora',
    options: { ...options },
    init: (site, { rng, sites }) => {
      const last = Math.max(...sites.map((t) => t.layer))
      if (site.kind === 'block') return tasks && site.layer === last ? { state: {} as MtloraState } : undefined
      mustFit(site, rank)
      const [out, input] = site.weight!.shape
      const common = { a: kaiming(rng, [rank, input]) as Tensor2D, b: zeros([out, rank]) as Tensor2D }
      const [, block] = BRANCHES.exec(site.name) ?? []
      if (!tasks || site.layer !== last || !block) return { state: common as MtloraState }
      if (!sites.some((t) => t.name === block))
        throw new Error(`${site.name}: tasks branch off here, and nothing ends their branches; widen "at" to ${block}`)
      mustFit(site, taskRank)
      const each = stack(Array.from({ length: tasks }, (_, t) => kaiming(rng.fork(t), [taskRank, input]))) // [tasks, r, in]
      return { state: { ...common, at: each as Tensor3D, bt: zeros([tasks, out, taskRank]) as Tensor3D } }
    },
    ...(tasks
      ? {
          around: (next, x, state, ctx) => {
            const { site, scratch } = ctx
            if (site.kind === 'block') return streams(next, x, ctx)
            if (!state.at) return add(next(x), shared(state, x))
            const task = scratch.get(`${BRANCHES.exec(site.name)![1]}.task`)
            if (task) return add(scratch.get(`${site.name}.mtlora`)!, own(state, x, task))
            const frozen = next(x)
            const y = add(frozen, shared(state, x))
            scratch.set(`${site.name}.mtlora`, addShared ? y : frozen)
            return y
          },
        }
      : { weight: (base, state, ctx) => sum(base, droppedWhile(ctx, dropout, update(state))) }),
  }
}
