import { plainBytes } from '@weftjs/tensor/checkpoint'

export interface ByteWriter {
  bytes(b: Uint8Array | readonly number[]): void
  varint(v: number): void
  float(v: number): void
  text(s: string): void
  /** all that was written */
  end(): Uint8Array
}
/** `what` names what is read, in errors */
export interface ByteReader {
  bytes(n: number, what: string): Uint8Array
  varint(what: string): number
  float(what: string): number
  text(what: string): string
  /** bytes that are still to come */
  left(): number
}

/** Numbers and texts one after the other, little-endian; lengths in groups of 7 bits, the last without the high bit. */
export const byteWriter = (): ByteWriter => {
  const parts: Uint8Array[] = []
  const bytes = (b: Uint8Array | readonly number[]): void => void parts.push(Uint8Array.from(b))
  const varint = (v: number): void => {
    const found: number[] = []
    let rest = v
    do {
      found.push((rest % 128) + (rest >= 128 ? 128 : 0))
      rest = Math.floor(rest / 128)
    } while (rest)
    bytes(found)
  }
  return {
    bytes,
    varint,
    float: (v: number): void => bytes(new Uint8Array(Float32Array.of(v).buffer)),
    text: (s: string): void => {
      const b = new TextEncoder().encode(s)
      varint(b.length)
      bytes(b)
    },
    end: (): Uint8Array => {
      const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
      let at = 0
      for (const p of parts) {
        out.set(p, at)
        at += p.length
      }
      return out
    },
  }
}

/** The same read back; `file` names it in errors. @throws Error where the file ends early, or a length is beyond 2⁵³ */
export const byteReader = (given: Uint8Array, file: string): ByteReader => {
  const data = plainBytes(given)
  let at = 0
  const bytes = (n: number, what: string): Uint8Array => {
    if (n > data.length - at)
      throw new Error(
        `${file}: ${what} needs ${n} bytes at byte ${at}, and ${data.length - at} are left; it was cut short`,
      )
    at += n
    return data.subarray(at - n, at)
  }
  const varint = (what: string): number => {
    let [v, factor] = [0, 1]
    for (;;) {
      const b = bytes(1, what)[0]!
      v += (b & 127) * factor
      if (!Number.isSafeInteger(v)) throw new Error(`${file}: ${what} at byte ${at} is beyond 2⁵³`)
      if (b < 128) return v
      factor *= 128
    }
  }
  return {
    bytes,
    varint,
    float: (what: string): number => new DataView(bytes(4, what).slice().buffer).getFloat32(0, true),
    text: (what: string): string => {
      const b = bytes(varint(`the length of ${what}`), what)
      try {
        return new TextDecoder('utf-8', { fatal: true }).decode(b)
      } catch {
        throw new Error(`${file}: ${what} is not UTF-8`)
      }
    },
    left: (): number => data.length - at,
  }
}
