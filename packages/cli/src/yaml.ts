import { parseDocument } from 'yaml'
import { Failure } from './fail.ts'

/**
 * YAML as plain data. Keys that occur twice, unknown tags and files that unfold to more than they say are refused.
 * @throws Failure that says where
 */
export const parseYaml = (text: string, place: string): unknown => {
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true })
  const [first] = [...document.errors, ...document.warnings]
  // the lines after the first draw the place once more
  if (first)
    throw new Failure(
      `${place}: not valid YAML: ${first.message.trim().split('\n')[0]!.replace(/:$/, '')}; mend it there`,
    )
  try {
    return document.toJS({ maxAliasCount: 50 })
  } catch (error) {
    throw new Failure(`${place}: not valid YAML: ${(error as Error).message}; write out what the aliases stand for`)
  }
}
