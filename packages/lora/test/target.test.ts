import { readFile } from 'node:fs/promises'
import { sitesOf } from '@weftjs/model'
import { cpu } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { peftConfig, peftTargets, peftTrained } from '../src/index.ts'
import { loraScale } from '../src/lora.ts'
import { format } from '../src/peft/formats/lora.ts'
import { peftOptions } from '../src/peft/meaning.ts'
import { fixtures, model } from './fixture.ts'

await cpu()

interface Case {
  readonly base: string
  readonly config: Readonly<Record<string, unknown>>
  /** module → rank and factor */
  readonly layers?: Readonly<Record<string, readonly [number, number]>>
  readonly whole?: readonly string[]
  readonly error?: string
}
const { cases } = JSON.parse(await readFile(`${fixtures}peft/targets.json`, 'utf8')) as { cases: Case[] }

describe('modules that PEFT adapts', () => {
  it.each(cases.map((c) => [`${c.base} ${JSON.stringify(c.config)}`, c] as const))('%s', async (_, c) => {
    const network = await model(c.base)
    const sites = sitesOf(network)
    const config = peftConfig({ peft_type: 'LORA', ...c.config })
    if (c.error) {
      expect(() => peftTargets(config, sites)).toThrow(/matches target_modules|cannot|which has no matrix/)
      return
    }
    const targets = peftTargets(config, sites)
    expect(targets.map((s) => s.module).sort()).toEqual(Object.keys(c.layers!).sort())
    const at = loraScale(peftOptions(format, config, targets))
    for (const site of targets) {
      const [rank, factor] = c.layers![site.module!]!
      expect(at(site).rank, site.module).toBe(rank)
      expect(at(site).factor, site.module).toBeCloseTo(factor, 12)
    }
    const modules = new Map(sites.flatMap((s) => (s.module ? [[s.name, s.module] as const] : [])))
    const names = peftTrained(config, network, sites, targets).map((n) =>
      modules.has(n) ? `${modules.get(n)}.weight` : `${modules.get(n.replace(/\.bias$/, ''))}.bias`,
    )
    expect(names.sort()).toEqual([...c.whole!].sort())
  })
})
