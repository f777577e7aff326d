import { type Input, nameOf, pieces } from './input.ts'
import { lazy } from './lazy.ts'

/** Places of the bytes after a lead byte, and the range of the first of them (RFC 3629, table in section 4); 0 for no lead byte. */
const follow = (lead: number): readonly [count: number, low: number, high: number] => {
  if (lead >= 0xc2 && lead <= 0xdf) return [1, 0x80, 0xbf]
  if (lead >= 0xe0 && lead <= 0xef) return [2, lead === 0xe0 ? 0xa0 : 0x80, lead === 0xed ? 0x9f : 0xbf]
  if (lead >= 0xf0 && lead <= 0xf4) return [3, lead === 0xf0 ? 0x90 : 0x80, lead === 0xf4 ? 0x8f : 0xbf]
  return [0, 0, 0]
}

/** Index of the first byte that is not UTF-8, or the length when all is well. */
const firstInvalid = (bytes: Uint8Array): number => {
  let at = 0
  while (at < bytes.length) {
    const lead = bytes[at]!
    if (lead < 0x80) {
      at++
      continue
    }
    const [count, low, high] = follow(lead)
    if (count === 0) return at
    for (let i = 1; i <= count; i++) {
      const byte = bytes[at + i] ?? 0
      if (byte < (i === 1 ? low : 0x80) || byte > (i === 1 ? high : 0xbf)) return at
    }
    at += count + 1
  }
  return at
}

/** How many bytes at the end begin a character that is not complete yet. */
const unfinished = (bytes: Uint8Array): number => {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!
    if ((byte & 0xc0) === 0x80) continue
    return follow(byte)[0] >= back ? back : 0
  }
  return 0
}

/**
 * The text of an input, piece by piece: strict UTF-8, a byte order mark at the start dropped.
 * Throws at bytes that are not UTF-8, naming the source and the byte offset.
 */
export const utf8 = (input: Input): AsyncIterable<string> =>
  lazy(async function* () {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    const name = nameOf(input)
    let carry = new Uint8Array(0)
    let offset = 0 // of the first byte of `carry` in the input
    let start = true
    const decode = (bytes: Uint8Array): string => {
      try {
        const text = decoder.decode(bytes)
        offset += bytes.length
        return text
      } catch {
        const at = firstInvalid(bytes)
        const found = [...bytes.subarray(at, at + 2)].map((b) => b.toString(16).padStart(2, '0')).join(' ')
        const utf16 = offset + at === 0 && (found === 'ff fe' || found === 'fe ff')
        throw new Error(
          `${name}: byte ${offset + at} (${found}) is not UTF-8${utf16 ? ' but the mark of UTF-16' : ''}; save the file as UTF-8`,
        )
      }
    }
    const first = (text: string): string => {
      if (text === '' || !start) return text
      start = false
      return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text
    }
    for await (const piece of pieces(input)) {
      let text: string
      if (typeof piece === 'string') text = piece
      else {
        const bytes = carry.length === 0 ? piece : new Uint8Array(carry.length + piece.length)
        if (bytes !== piece) {
          bytes.set(carry)
          bytes.set(piece, carry.length)
        }
        const whole = bytes.length - unfinished(bytes)
        text = decode(bytes.subarray(0, whole))
        carry = bytes.slice(whole)
      }
      const out = first(text)
      if (out !== '') yield out
    }
    if (carry.length > 0) decode(carry)
  })
