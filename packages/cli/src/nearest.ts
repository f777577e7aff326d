/** number of letters to insert, delete, replace or swap with a neighbour (Damerau, restricted) */
const distance = (a: string, b: string): number => {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let d = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, rows[i - 2]![j - 2]! + 1)
      row.push(d)
    }
    rows.push(row)
  }
  return rows[a.length]![b.length]!
}

/** The name that was probably meant; none where nothing is near. */
export const nearest = (word: string, names: readonly string[]): string | undefined => {
  const short = word.toLowerCase().slice(0, 60)
  const [best] = names
    .map((name) => ({ name, d: name.startsWith(short) || short.startsWith(name) ? 1 : distance(short, name) }))
    .sort((a, b) => a.d - b.d)
  return best && best.d <= Math.max(1, Math.floor(short.length / 3)) ? best.name : undefined
}
