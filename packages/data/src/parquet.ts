import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet'
import { type RandomInput, randomAccess } from './input.ts'
import { lazy } from './lazy.ts'
import { placed, type Row } from './row.ts'

export interface ParquetOptions {
  /** which columns to read; absent, all of them */
  columns?: readonly string[]
}

/** Whole numbers as numbers and typed arrays as arrays, all the way down. */
const plain = (value: unknown, place: string): unknown => {
  if (typeof value === 'bigint') {
    if (BigInt(Number(value)) !== value || !Number.isSafeInteger(Number(value)))
      throw new Error(`${place}: ${value} is beyond the whole numbers of JavaScript (2^53)`)
    return Number(value)
  }
  if (ArrayBuffer.isView(value) && !(value instanceof DataView))
    return Array.from(value as unknown as ArrayLike<unknown>, (v) => plain(v, place))
  if (Array.isArray(value)) return value.map((v) => plain(v, place))
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, plain(v, place)]))
  return value
}

/**
 * rows of a Parquet file, one row group at a time  —  Apache Parquet
 *
 * Read by ranges: only the footer and the columns asked for.
 */
export const parquet = (input: RandomInput, { columns }: ParquetOptions = {}): AsyncIterable<Row> =>
  lazy(async function* () {
    const { name, size, read } = randomAccess(input)
    const file: AsyncBuffer = {
      byteLength: size,
      slice: async (start, end = size) => {
        const bytes = await read(start, end)
        return bytes.slice().buffer
      },
    }
    const guarded = async <T>(what: string, work: Promise<T>): Promise<T> => {
      try {
        return await work
      } catch (error) {
        throw new Error(`${name}: ${what} cannot be read as Parquet (${(error as Error).message})`)
      }
    }
    if (size === 0) return
    const metadata: FileMetaData = await guarded('the footer', parquetMetadataAsync(file))
    const found = parquetSchema(metadata).children.map((child) => child.element.name)
    const missing = columns?.find((column) => !found.includes(column))
    if (missing !== undefined)
      throw new Error(`${name}: no column "${missing}"; found ${found.map((c) => `"${c}"`).join(', ')}`)
    // hyparquet itself knows Snappy; the others are fetched only for files that use them
    const codecs = metadata.row_groups.flatMap((group) => group.columns.map((column) => column.meta_data?.codec))
    const others = codecs.some((codec) => codec !== undefined && codec !== 'UNCOMPRESSED' && codec !== 'SNAPPY')
    const compression = others ? { compressors: (await import('hyparquet-compressors')).compressors } : {}
    let rowStart = 0
    for (const [index, group] of metadata.row_groups.entries()) {
      const rowEnd = rowStart + Number(group.num_rows)
      const rows = await guarded(
        `row group ${index + 1} of ${metadata.row_groups.length}`,
        parquetReadObjects({
          file,
          metadata,
          rowStart,
          rowEnd,
          ...compression,
          ...(columns && { columns: [...columns] }),
        }),
      )
      for (const [i, row] of rows.entries()) {
        const place = `${name}, row ${rowStart + i + 1}`
        yield placed(plain({ ...row }, place) as Record<string, unknown>, place)
      }
      rowStart = rowEnd
    }
  })
