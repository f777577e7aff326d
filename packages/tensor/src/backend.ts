/** A backend that is ready: which, on what, and why it was taken. */
export interface Backend {
  /** tfjs's name: 'webgpu', 'wasm', 'cpu' */
  readonly name: string
  /** the device or library behind it, for people */
  readonly device: string
  readonly why?: string
  /** the processor's own name of a GPU that is only software (SwiftShader, llvmpipe) */
  readonly software?: boolean
  /** comes true with the reason when the GPU is lost or out of memory: what is computed from then on is worthless */
  readonly failure?: Promise<Error>
}

/** the module, or an error that says which package to install */
export const needs = async <T>(load: () => Promise<T>, name: string): Promise<T> => {
  try {
    return await load()
  } catch (error) {
    const code = (error as { code?: string }).code
    if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND')
      throw new Error(`this backend needs the package ${name}: npm install ${name}`, { cause: error })
    throw error
  }
}

export const isNode = (): boolean => typeof process !== 'undefined' && Boolean(process.versions?.node)
