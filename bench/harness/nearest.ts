/** edits from a to b: insertions, deletions, substitutions  —  Levenshtein, 1966 */
const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row.at(-1)!
}

/** the names most like a word, best first; one that begins or contains it counts as near */
export const nearest = (word: string, names: readonly string[], n = 3): string[] =>
  names
    .map((name) => ({ name, d: name.includes(word) || word.includes(name) ? 1 : distance(word, name) }))
    .sort((a, b) => a.d - b.d)
    .filter(({ d }, i) => i === 0 || d <= Math.max(2, word.length / 2))
    .slice(0, n)
    .map(({ name }) => name)
