import type { Adapter } from '@weftjs/spec'
import { type AdapterSuite, factories, testAdapter } from '@weftjs/testkit'
import { expect, test } from 'vitest'

/** How a method is tried beyond its defaults: `trial` of contract/NAME.ts. */
export interface Trial {
  /** each is tried; `{}` where none is given */
  readonly options?: readonly object[]
  /** laws that the method does not claim, and places where it lives; for all options, or by them */
  readonly suite?: AdapterSuite | ((options: any) => AdapterSuite)
  /** for which options does the file's formula `trainable` hold? all by default */
  readonly counts?: (options: object) => boolean
}
interface Module {
  /** numbers that train at a site, of all that the adapter is put on */
  readonly trainable?: (site: object, options: object, sites: readonly object[]) => number
}

/** Every law of an adapter for every file of src, as `import.meta.glob` gives them. */
export const contract = (
  methods: Readonly<Record<string, unknown>>,
  trials: Readonly<Record<string, unknown>>,
): void => {
  const found = factories(methods)
  test('every trial is of a method', () => {
    const names = found.map((f) => `./contract/${f.name}.ts`)
    expect(Object.keys(trials).filter((path) => !names.includes(path))).toEqual([])
  })
  for (const { name, module, factory } of found) {
    const { trial = {} } = (trials[`./contract/${name}.ts`] ?? {}) as { trial?: Trial }
    const { options: all = [{}], suite = {}, counts = () => true } = trial
    for (const options of all) {
      const { trainable } = module as Module
      testAdapter(factory(options) as Adapter, {
        ...(trainable && counts(options) && { count: (site, sites) => trainable(site, options, sites) }),
        ...(typeof suite === 'function' ? suite(options) : suite),
      })
    }
  }
}
