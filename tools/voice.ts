/** Unfold the voice of examples/data: `node --import tsx tools/voice.ts [folder] [seed]`. The same seed gives the same bytes. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { questions } from './voice/answers.ts'
import { grammar } from './voice/grammar.ts'
import { day as days, type Entry } from './voice/lexicon.ts'
import { passages } from './voice/passages.ts'

const [folder = 'examples/data', seed = '7'] = process.argv.slice(2)

/** mulberry32: a uniform number in [0, 1) from 32 bits of state. */
const generator = (start: number): (() => number) => {
  let state = start >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let z = Math.imul(state ^ (state >>> 15), state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32
  }
}
const random = generator(Number(seed))
const between = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1))

const shuffled = <T>(items: readonly T[]): T[] => {
  const copy = [...items]
  for (let i = copy.length - 1; i > 0; i--) {
    const j = between(0, i)
    const kept = copy[i]!
    copy[i] = copy[j]!
    copy[j] = kept
  }
  return copy
}

/** Each rule is dealt like a deck of cards, so that nothing comes again before everything else has come. */
const decks = new Map<string, (string | Entry)[]>()
const deal = (rule: string): string | Entry => {
  const cards = grammar[rule] ?? questions[rule]
  if (!cards) throw new Error(`voice: no rule "${rule}"; add it to tools/voice/grammar.ts`)
  let deck = decks.get(rule)
  if (!deck?.length) {
    deck = shuffled(cards)
    decks.set(rule, deck)
  }
  return deck.pop()!
}

const units =
  'none one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'.split(
    ' ',
  )
const tens = '- - twenty thirty forty fifty sixty seventy eighty ninety'.split(' ')
/** 0 … 999 in words; zero is "none", for this is a ledger. */
const inWords = (n: number): string => {
  if (n < 20) return units[n]!
  if (n < 100) return tens[Math.floor(n / 10)]! + (n % 10 ? `-${units[n % 10]}` : '')
  return `${units[Math.floor(n / 100)]} hundred${n % 100 ? ` and ${inWords(n % 100)}` : ''}`
}

type Bound = Record<string, string | Entry>
const slot = /\{([a-z-]+)(?:=([a-z]+))?(?:\.([a-z]+))?\}/g

/** Unfold a template; what a slot keeps as `=x` is said by every `{x}` after it in the same entry. */
const unfold = (template: string, bound: Bound): string => {
  // kept first, said second: `she {did}, and {thing=t.the} fell` may speak of t before its slot
  const own: Bound = {}
  for (const [, rule, name] of template.matchAll(slot)) if (name) own[name] = bound[name] = deal(rule!)
  for (const [name, card] of Object.entries(own)) {
    if (typeof card === 'string') own[name] = bound[name] = unfold(card, bound)
  }
  return template.replace(slot, (_, rule: string, name: string | undefined, field: string | undefined) => {
    const card = name ? own[name]! : (bound[rule] ?? deal(rule))
    if (typeof card === 'string') return unfold(card, bound)
    const said = card[field ?? ('full' in card ? 'full' : 'the')]
    if (said === undefined) throw new Error(`voice: "${rule}" has no "${field}" in "${template}"`)
    return said
  })
}

/** Capitals, commas and quotation marks as they ought to be. */
const polish = (text: string): string =>
  text
    .replace(/,\s*([.,;:?!])/g, '$1')
    .replace(/\s+/g, ' ')
    .replace(/\.(" [a-z])/g, ',$1')
    .replace(/\b(said|says|say|saying|cried) "/g, '$1, "')
    .replace(/\ba (?=[aeiou](?!ne ))/g, 'an ')
    .replace(
      /(^|[.!?] |^"|[.!?] "|, "|: ")([a-z])/g,
      (_, before: string, letter: string) => before + letter.toUpperCase(),
    )
    .replace(/\b(Mr|Mrs|St)\. ([a-z])/g, (_, title: string, letter: string) => `${title}. ${letter.toUpperCase()}`)
    .trim()

// ---- the voyage: days pass, ports pass, and the account of the fish is kept
let date = 0
let owed = 41
let last = 'Saltcombe'
const state = (): Bound => {
  const paid = between(0, 5) === 0 ? between(1, 2) : 0
  owed = Math.max(7, owed + between(0, 3) - paid)
  if (owed > 320) owed = 60 // the Captain settles, once a year
  if (date % 9 === 0) last = deal('port') as string
  return { day: days[date % 7]!, number: inWords((date % 40) + 2), last, owed: inWords(owed), paid: inWords(paid) }
}
const entry = (): string => {
  date += between(0, 2) ? 1 : 0
  return polish(unfold(deal('entry') as string, state()))
}

// ---- the log
const size = 340_000
const log: string[] = []
const waiting = [...passages]
for (let length = 0; length < size; ) {
  const due = waiting.length && length >= ((passages.length - waiting.length) * size) / passages.length
  const text = due ? waiting.shift()! : entry()
  log.push(text)
  length += text.length + 2
}

// ---- someone asks, the cat answers; someone begins, the cat goes on
const answered = (): { question: string; answer: string } => {
  const bound = state()
  const [question, answer] = (deal('ask') as string).split(' => ') as [string, string]
  const both = unfold(`${question} => ${answer}`, bound).split(' => ') as [string, string]
  return {
    question: polish(both[0]),
    answer: polish(`Hear the cat. ${both[1]} ${unfold('{close}', bound)} So says the cat.`),
  }
}
const rows = Array.from({ length: 200 }, answered)
const chat = rows.map(({ question, answer }) =>
  JSON.stringify({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  }),
)
const completion = Array.from({ length: 200 }, () => {
  const text = entry()
  const ends = [...text.matchAll(/(?<!\b(?:Mr|Mrs|St))[.!?]"? /g)].map((end) => end.index + end[0].length - 1)
  const cut = ends[between(1, Math.max(1, Math.min(3, ends.length - 2)))]!
  return JSON.stringify({ prompt: text.slice(0, cut), completion: text.slice(cut) })
})

mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'voice.txt'), `${log.join('\n\n')}\n`)
writeFileSync(join(folder, 'voice.chat.jsonl'), `${chat.join('\n')}\n`)
writeFileSync(join(folder, 'voice.completion.jsonl'), `${completion.join('\n')}\n`)
console.log(
  `${log.length} entries, ${log.join('\n\n').length} characters; ${chat.length} chats, ${completion.length} completions`,
)
