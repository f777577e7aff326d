/**
 * Checkpoint files without a tensor library: safetensors, whole or in shards, read lazily from a file, a Blob, OPFS or
 * a URL, and written as a stream. What needs Node is in `./file.ts`.
 * @packageDocumentation
 */
export {
  bitsOf,
  bytesOf,
  type Dtype,
  decodeFloats,
  decodeInts,
  dtypes,
  elementsOf,
  encodeFloats,
  encodeInts,
  isDtype,
  isFloating,
  isInteger,
} from './dtype.ts'
export { CheckpointError, type Place } from './error.ts'
export { blobFolder, type Folder, opfsFolder, urlFolder } from './folder.ts'
export { type OpenOptions, openCheckpoint } from './open.ts'
export { type Checkpoint, type Entry, openSafetensors, type TensorBytes } from './safetensors.ts'
export { planShards, type Shard, type ShardOptions, writeSharded } from './shard.ts'
export { blobSink, blobSinks, opfsSink, type Sink } from './sink.ts'
export { type ByteSource, fromBlob, fromBytes, fromOpfs, plainBytes } from './source.ts'
export { fromUrl, type UrlOptions } from './url.ts'
export { type Metadata, sources, type TensorSource, toSafetensors, writeSafetensors } from './write.ts'
