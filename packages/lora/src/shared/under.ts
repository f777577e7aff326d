import type { Params } from '@weftjs/spec'

/** tensors whose names begin so, without that beginning; of two with one name the later stands */
export const under = (start: string, ...all: readonly Params[]): Params =>
  Object.fromEntries(
    all.flatMap((params) =>
      Object.entries(params).flatMap(([n, t]) => (n.startsWith(start) ? [[n.slice(start.length), t] as const] : [])),
    ),
  )
