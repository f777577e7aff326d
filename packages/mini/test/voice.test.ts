import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'voice-'))
const unfold = (out: string, ...seed: string[]): void => {
  execFileSync(process.execPath, ['--import', 'tsx', 'tools/voice.ts', join(folder, out), ...seed], { cwd: root })
}
const made = (path: string): string => readFileSync(join(folder, path), 'utf8')
const kept = (name: string): string => readFileSync(join(root, 'examples/data', name), 'utf8')

interface Chat {
  messages: { role: string; content: string }[]
}
interface Completion {
  prompt: string
  completion: string
}

beforeAll(() => {
  unfold('same')
  unfold('other', '8')
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('the example corpus', () => {
  it.each(['voice.txt', 'voice.chat.jsonl', 'voice.completion.jsonl'])('%s is what the script unfolds', (name) => {
    expect(made(`same/${name}`) === kept(name)).toBe(true)
  })

  it('is another one under another seed', () => {
    const first = new Set(kept('voice.txt').split('\n\n'))
    const common = made('other/voice.txt')
      .split('\n\n')
      .filter((entry) => first.has(entry))
    expect(common.length).toBeLessThan(40) // the passages, and no more than a few short entries
  })

  it('is in one voice: every entry opens and closes as the cat does', () => {
    const entries = kept('voice.txt').trimEnd().split('\n\n')
    expect(entries.length).toBeGreaterThan(700)
    expect(new Set(entries).size).toBe(entries.length)
    for (const entry of entries) {
      expect(entry).toMatch(/^(?:To [^.]+\. )?Hear the cat/)
      expect(entry).toMatch(/So says the cat\.$/)
    }
  })

  it('is written out cleanly', () => {
    const text = kept('voice.txt')
    expect(text.length).toBeGreaterThan(300_000)
    expect(text.length).toBeLessThan(400_000)
    expect(text).toMatch(/^[\x20-\x7e\n]+$/)
    expect(text).not.toMatch(/[{}\d]|undefined|\[object| {2}| [,.;:?!]|,[.,]|\ba [aeiou](?!ne )/)
    expect(text).not.toMatch(/(?<!\b(?:Mr|Mrs|St))[.!?] [a-z]/)
  })

  it('has rows of both formats', () => {
    const chats = kept('voice.chat.jsonl')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Chat)
    expect(chats.length).toBe(200)
    for (const { messages } of chats) {
      expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant'])
      expect(messages[0]!.content).toMatch(/[.?]$/)
      expect(messages[1]!.content).toMatch(/^Hear the cat\. .*So says the cat\.$/)
    }
    const completions = kept('voice.completion.jsonl')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Completion)
    expect(completions.length).toBe(200)
    const log = kept('voice.txt')
    for (const { prompt, completion } of completions) {
      expect(prompt).toMatch(/[.!?]"?$/)
      expect(prompt).not.toMatch(/\b(?:Mr|Mrs|St)\.$/)
      expect(completion).toMatch(/^ .*So says the cat\.$/)
      expect(log.includes(prompt + completion)).toBe(false)
    }
  })
})
