/** What to do about errors that browsers state in their own terms; our libraries' errors say it already. */
const KNOWN: readonly (readonly [pattern: RegExp, words: string, fatal?: true])[] = [
  [
    /out of memory|^\S* ?Aborted\(|allocation failed|cannot enlarge memory|memory access out of bounds|invalid array length|could not allocate/i,
    'The memory is used up. Lower batch or length, choose 4-bit frozen weights, or take a smaller model. What was trained is lost; the model is loaded again.',
    true,
  ],
  [
    /device (was |is )?(lost|destroyed)|lost the device|external instance reference|mapAsync/i,
    'The graphics processor stopped answering: its memory may be used up, or its driver started anew. Lower batch or length, or compute on WebAssembly. What was trained is lost; the model is loaded again.',
    true,
  ],
  [
    /NotReadableError|could not be read/i,
    'A picked file cannot be read any more: it has changed or moved since. Pick it again.',
  ],
]

export interface Explained {
  readonly message: string
  /** the backend cannot go on: the worker has to be started anew */
  readonly fatal: boolean
}

/** an error in words */
export const explain = (error: unknown): Explained => {
  const { name, message } = error instanceof Error ? error : { name: '', message: String(error) }
  const known = KNOWN.find(([pattern]) => pattern.test(`${name} ${message}`))
  return { message: known ? `${known[1]} (${message || name})` : message || name, fatal: known?.[2] ?? false }
}
