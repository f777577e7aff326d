import type { Held } from './format.ts'

/** Kinds of modules that PEFT has a type for, beside linear ones. @throws Error that names a site of another kind */
export const mustTake = (
  type: string,
  held: readonly Held[],
  { conv1d = false, embedding = false }: { readonly conv1d?: boolean; readonly embedding?: boolean } = {},
): void => {
  for (const { site } of held) {
    const what =
      site.kind === 'embed' && !embedding
        ? 'an embedding'
        : site.transposed && !conv1d
          ? 'a matrix that its checkpoint keeps as [in, out] (Conv1D)'
          : undefined
    if (what)
      throw new Error(`${site.name}: PEFT has no ${type} for ${what}; leave this site out, or fold the adapter instead`)
  }
}
