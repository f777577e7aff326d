import { factories, type MergeSuite, testMerge } from '@weftjs/testkit'

/** files of src that are no merge */
const HELPERS = ['merge-checkpoints']
/** what each is tried with, and laws that it does not claim under those options */
const CASES: Readonly<Record<string, readonly (readonly [options: object, suite: MergeSuite])[]>> = {
  linear: [
    [{}, {}],
    [{ normalize: false }, {}],
  ],
  'task-arithmetic': [
    [{}, { needsBase: true }],
    [{ normalize: true }, { needsBase: true }],
    [{ lambda: 0.5 }, { needsBase: true, keepsEqual: false }],
  ],
  ties: [
    [{}, { needsBase: true }],
    [{ density: 0.5 }, { needsBase: true, keepsEqual: false }],
    [
      { density: 0.3, lambda: 2, normalize: false },
      { needsBase: true, keepsEqual: false },
    ],
  ],
}

for (const { name, factory } of factories(import.meta.glob('../src/*.ts', { eager: true }), HELPERS))
  for (const [options, suite] of CASES[name] ?? [[{}, {}]])
    testMerge(`${name} ${JSON.stringify(options)}`, factory(options), suite)
