import type { Adapter } from '@weftjs/spec'
import { type AdapterSuite, factories, testAdapter } from '@weftjs/testkit'

/** files of src that are no method */
const HELPERS = ['pattern', 'peft', 'peft-config', 'save-peft', 'target']
/** what a method is tried with beyond its defaults */
const OPTIONS: Readonly<Record<string, readonly object[]>> = {
  lora: [
    { rank: 4 },
    { rank: 2, alpha: 8, rslora: true, init: 'gaussian', dropout: 0.3 },
    { rank: 2, rankPattern: { 'attn\\.q': 5 }, alphaPattern: { 'mlp\\.down': 1 } },
    { rank: 3, loraBias: true },
  ],
}
/** laws that a method does not claim */
const SUITES: Readonly<Record<string, AdapterSuite>> = {}

interface Module {
  /** numbers that train at a site */
  readonly trainable?: (site: object, options: object) => number
}

for (const { name, module, factory } of factories(import.meta.glob('../src/*.ts', { eager: true }), HELPERS))
  for (const options of OPTIONS[name] ?? [{}]) {
    const { trainable } = module as Module
    const plain = !('rankPattern' in options)
    testAdapter(factory(options) as Adapter, {
      ...(trainable && plain && { count: (site) => trainable(site, options) }),
      ...SUITES[name],
    })
  }
