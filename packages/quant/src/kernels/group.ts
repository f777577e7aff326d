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
