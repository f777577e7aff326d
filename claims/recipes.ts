/** Recipes and claims by the names of methods. */
import { existsSync } from 'node:fs'
import type { Adapter } from '@weftjs/spec'
import { camel, type Method, root } from '../tools/source.ts'
import { type Claim, linears, type Recipe } from './lab.ts'

/** what claims/FAMILY/NAME.ts says of a method, and its factory on all linear sites where that says nothing */
export const heldOf = async ({
  name,
  family,
  file,
}: Pick<Method, 'name' | 'family' | 'file'>): Promise<{ recipe?: Recipe; claim?: Claim }> => {
  const own = name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)
  const path = `${root}claims/${family}/${own}.ts`
  const held = existsSync(path) ? ((await import(path)) as { recipe?: Recipe | null; claim?: Claim }) : {}
  const { recipe, claim } = held
  if (recipe === null) return claim ? { claim } : {}
  if (recipe) return { recipe, ...(claim && { claim }) }
  if (!file.startsWith('packages/lora/src/')) return claim ? { claim } : {}
  const module = (await import(`${root}${file}`)) as Record<string, (options?: object) => Adapter>
  return { recipe: linears(module[camel(own)]!()), ...(claim && { claim }) }
}
