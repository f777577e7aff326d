/** @throws Error unless a group is a whole number of at least 1, or -1 for a whole row */
export const checkGroup = (name: string, group: number): void => {
  if (!Number.isInteger(group) || group === 0 || group < -1)
    throw new Error(`${name}: group must be a whole number of at least 1, or -1 for a row, found ${group}`)
}

/** how many numbers of a row of `width` share a scale: @throws Error where groups do not fill it */
export const blockOf = (name: string, group: number, width: number): number => {
  const block = group === -1 ? Math.max(1, width) : group
  if (width % block === 0) return block
  const fits = [128, 64, 32, 16, 8].find((g) => g < block && width % g === 0)
  throw new Error(
    `${name}: rows of ${width} numbers are no multiple of the group of ${group}; choose ${fits ? `group ${fits}` : 'a group that divides them'}, or -1 for the whole row`,
  )
}

/** what numbers share a scale */
export type Per = 'tensor' | 'row' | 'group'
/** @throws Error for another word, or a group that is none */
export const checkPer = (name: string, per: Per, group: number): void => {
  if (!['tensor', 'row', 'group'].includes(per))
    throw new Error(`${name}: per must be 'tensor', 'row' or 'group', found ${JSON.stringify(per)}`)
  checkGroup(name, group)
}
/** how many consecutive numbers of the matrix, row by row, share one */
export const perBlock = (name: string, per: Per, group: number, [out, width]: readonly [number, number]): number =>
  per === 'tensor' ? Math.max(1, out * width) : blockOf(name, per === 'row' ? -1 : group, width)
/** how many scales there are */
export const perScales = (name: string, per: Per, group: number, shape: readonly [number, number]): number =>
  Math.ceil((shape[0] * shape[1]) / perBlock(name, per, group, shape))
