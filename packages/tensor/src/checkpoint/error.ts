/** Where in a checkpoint something is wrong. */
export interface Place {
  readonly file?: string | undefined
  readonly tensor?: string | undefined
}

/** A checkpoint that cannot be read or written; the message names file and tensor, what was found, and the remedy. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError'
  readonly file: string | undefined
  readonly tensor: string | undefined
  constructor(found: string, { file, tensor }: Place = {}, options?: ErrorOptions) {
    const where = [...(file === undefined ? [] : [file]), ...(tensor === undefined ? [] : [`tensor ${quote(tensor)}`])]
    super([...where, found].join(': '), options)
    this.file = file
    this.tensor = tensor
  }
}

/** text from a file, quoted and cut so that a hostile one cannot flood a message */
export const quote = (text: string, limit = 120): string =>
  JSON.stringify(text.length > limit ? `${text.slice(0, limit)}…` : text)

/** any value from a file, as short JSON */
export const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}

/** what went wrong below, in words */
export const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** the caller's own wish to stop, which is no fault of the checkpoint */
export const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError'

/** runs `read`; whatever it throws that is neither a CheckpointError nor an abort becomes a CheckpointError */
export const reading = async <T>(place: Place, read: () => T | Promise<T>, remedy: string): Promise<T> => {
  try {
    return await read()
  } catch (error) {
    if (error instanceof CheckpointError || isAbort(error)) throw error
    throw new CheckpointError(`cannot be read: ${reason(error)}; ${remedy}`, place, { cause: error })
  }
}
