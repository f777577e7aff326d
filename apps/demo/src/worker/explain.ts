/** What to do about errors that browsers state in their own terms; our libraries' errors say it already. */
const KNOWN: readonly (readonly [RegExp, string])[] = [
  [
    /out of memory|allocation failed|cannot enlarge memory|memory access out of bounds|invalid array length|could not allocate/i,
    'The memory is used up. Lower batch or length, choose 4-bit frozen weights, or take a smaller model; then load the page again.',
  ],
  [
    /device (was |is )?(lost|destroyed)|lost the device|external instance reference|dropped/i,
    'The graphics processor stopped answering: its memory may be used up, or its driver started anew. Lower batch or length and load the page again, or compute on WebAssembly.',
  ],
  [
    /NotReadableError|could not be read/i,
    'A picked file cannot be read any more: it has changed or moved since. Pick it again.',
  ],
]

/** an error in words */
export const explain = (error: unknown): string => {
  const message = error instanceof Error ? error.message || error.name : String(error)
  const known = KNOWN.find(([pattern]) => pattern.test(`${error instanceof Error ? error.name : ''} ${message}`))
  return known ? `${known[1]} (${message})` : message
}
