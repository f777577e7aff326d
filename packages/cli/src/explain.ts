/** remedies for what the system says, by its code */
const CODES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder; check the path',
  ENOTDIR: 'part of the path is a file, not a folder; choose another path',
  EEXIST: 'is there already, and no folder; choose another path',
  EISDIR: 'a folder, not a file; name a file in it',
  EACCES: 'permission denied; check owner and mode',
  EPERM: 'not permitted; check owner and mode',
  EROFS: 'the disk is read-only; choose another folder',
  ENOSPC: 'the disk is full; free some space (what was there is not damaged)',
  EDQUOT: 'the quota is used up; free some space (what was there is not damaged)',
  EFBIG: 'too large for this disk; choose another folder (what was there is not damaged)',
  EMFILE: 'too many open files; raise the limit (ulimit -n)',
}
/** how engines, allocators and devices say that memory has run out */
const MEMORY =
  /out of memory|outofmemory|allocation failed|invalid (typed )?array (buffer )?length|cannot enlarge memory|memory access out of bounds|array size exceeds|exceeds the max(imum)? (storage )?buffer|larger than the max(imum)? (storage )?buffer/i

/** What went wrong in one message, with a remedy where it comes from a lower layer that knows none. */
export const explain = (error: unknown): string => {
  if (typeof error !== 'object' || error === null) return String(error)
  const {
    message = '',
    code = '',
    path,
    dest,
  } = error as Record<'message' | 'code' | 'path' | 'dest', string | undefined>
  if (Object.hasOwn(CODES, code)) return `${dest ?? path ?? 'a file'}: ${CODES[code]}`
  if (MEMORY.test(message))
    return `out of memory (${message}); lower train.batch or train.length, set train.recompute, quantize the base (base: { codec: nf4 }), or take another backend`
  return message || String(error)
}
