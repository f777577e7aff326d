/** `npm run new FAMILY/NAME -- --paper 2401.01234 [--authors 'Hu et al.']`: a method's file, its line in the index, its test, a changeset. */
import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { camel, type Family, families, root } from './source.ts'
import { templates } from './templates.ts'

export interface NewMethod {
  readonly family: Family
  readonly file: string
  readonly paper: string
}

/** @throws Error that says what is wrong with the arguments */
export const readArguments = (args: readonly string[]): NewMethod => {
  const { positionals, values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { paper: { type: 'string' }, authors: { type: 'string', default: 'Authors' } },
  })
  const [family = '', file = '', ...rest] = (positionals[0] ?? '').split('/')
  if (positionals.length !== 1 || !file || rest.length)
    throw new Error('usage: npm run new FAMILY/NAME -- --paper 2401.01234 [--authors NAMES]')
  if (!families.includes(family as Family))
    throw new Error(`there is no family '${family}'; there are ${families.join(', ')}`)
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(file))
    throw new Error(`'${file}' is no name of a method: lower case, words joined by hyphens`)
  if (existsSync(join(root, `packages/${family}/src/${file}.ts`)))
    throw new Error(`packages/${family}/src/${file}.ts is there already`)
  const { paper, authors } = values
  if (!paper) throw new Error('--paper is missing: an arXiv number, or the name of what defines the method')
  const arxiv = /^(?:arXiv:)?(\d{4}\.\d{4,5})$/i.exec(paper)?.[1]
  return { family: family as Family, file, paper: arxiv ? `${authors}, arXiv:${arxiv}` : paper }
}

/** does the family's contract test find methods by the directory listing? */
const listed = (family: Family): boolean => {
  const folder = join(root, `packages/${family}/test`)
  return readdirSync(folder).some(
    (f) => /^contract.*\.test\.ts$/.test(f) && readFileSync(join(folder, f), 'utf8').includes('import.meta.glob'),
  )
}

/** the files to write, and the line for the index */
export const newMethod = (
  { family, file, paper }: NewMethod,
  inContract: boolean = listed(family),
): { files: Record<string, string>; line: string } => {
  const name = camel(file)
  const names = { file, name, Type: name[0]!.toUpperCase() + name.slice(1), paper }
  const { source, test, types } = templates[family]
  const exports = [...types(names).map((t) => `type ${t}`), name].join(', ')
  return {
    files: {
      [`packages/${family}/src/${file}.ts`]: source(names),
      [`packages/${family}/test/${file}.test.ts`]: test(names, inContract),
      [`.changeset/${family}-${file}.md`]: `---\n'@weftjs/${family}': minor\n---\n\n${name}: ${paper}.\n`,
    },
    line: `export { ${exports} } from './${file}.ts'\n`,
  }
}

if (basename(process.argv[1] ?? '') === 'new.ts') {
  try {
    const method = readArguments(process.argv.slice(2))
    const { files, line } = newMethod(method)
    const index = `packages/${method.family}/src/index.ts`
    const text = readFileSync(join(root, index), 'utf8')
    // an index between comments is written below, with the tables
    if (text.trim() === 'export {}') writeFileSync(join(root, index), line)
    else if (!text.includes('// methods, written by')) appendFileSync(join(root, index), line)
    for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text, { flag: 'wx' })
    const run = (command: string, ...args: string[]): void => {
      const { status, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
      if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
    }
    const sources = [index, ...Object.keys(files).filter((f) => f.endsWith('.ts'))]
    run(join(root, 'node_modules/.bin/biome'), 'check', '--write', ...sources)
    run(process.execPath, '--import', 'tsx', 'tools/index.ts')
    for (const path of [...Object.keys(files), index]) console.log(path)
    console.log(`npm test -- --project ${method.family} ${method.file} contract`)
  } catch (error) {
    console.error((error as Error).message)
    process.exitCode = 1
  }
}
