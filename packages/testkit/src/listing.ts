/** A file of a family's src and the factory that it exports under its own name. */
export interface MethodFile {
  /** without folder and extension: `lora` of ../src/lora.ts */
  readonly name: string
  readonly module: Readonly<Record<string, unknown>>
  readonly factory: (...args: any[]) => any
}

const camel = (name: string): string => name.replace(/-(.)/g, (_, c: string) => c.toUpperCase())

/**
 * The methods among the files of a folder, from `import.meta.glob('../src/*.ts', { eager: true })`: a file is a method
 * when it exports a function of its own name, and `helpers` lists those that are none.
 * @throws Error for a file that is neither, so that no method goes untested, and for a helper that is not there
 */
export const factories = (
  modules: Readonly<Record<string, unknown>>,
  helpers: readonly string[] = [],
): readonly MethodFile[] => {
  const files = Object.entries(modules).map(([path, module]) => ({
    name: path.split('/').at(-1)!.replace(/\.ts$/, ''),
    module: module as Record<string, unknown>,
  }))
  const gone = helpers.find((h) => !files.some((f) => f.name === h))
  if (gone !== undefined) throw new Error(`${gone}: listed as a helper, and there is no such file`)
  return files
    .filter(({ name }) => name !== 'index' && !helpers.includes(name))
    .map(({ name, module }) => {
      const factory = module[camel(name)]
      if (typeof factory !== 'function')
        throw new Error(
          `${name}.ts: exports no function '${camel(name)}'; a method's file is named as its factory, a file without one is listed as a helper in the test`,
        )
      return { name, module, factory: factory as MethodFile['factory'] }
    })
}
