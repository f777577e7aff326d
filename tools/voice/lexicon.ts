/** The words of the voice: what is aboard, who is aboard, and how a cat speaks of it. */

/** A thing with what agreement needs: `the`, `a`, `is`, `was`, `it` ... */
export type Entry = Readonly<Record<string, string>>

const article = (word: string): string =>
  /^[aeiou]/.test(word) && !/^(one|use)/.test(word) ? `an ${word}` : `a ${word}`
const single = (word: string): Entry => ({
  bare: word,
  the: `the ${word}`,
  a: article(word),
  is: 'is',
  was: 'was',
  has: 'has',
  does: 'does',
  it: 'it',
  them: 'it',
  its: 'its',
})
const mass = (word: string): Entry => ({ ...single(word), a: `some ${word}` })
const plural = (word: string): Entry => ({
  bare: word,
  the: `the ${word}`,
  a: `some ${word}`,
  is: 'are',
  was: 'were',
  has: 'have',
  does: 'do',
  it: 'they',
  them: 'them',
  its: 'their',
})
const words = (text: string): string[] => text.trim().split(/\s*[,\n]\s*/)
const person =
  (he: 'he' | 'she') =>
  (text: string): Entry => {
    const [full = '', short = ''] = text.split(' | ')
    return he === 'he'
      ? { full, short, he: 'he', him: 'him', his: 'his', himself: 'himself' }
      : { full, short, he: 'she', him: 'her', his: 'her', himself: 'herself' }
  }

export const crew: readonly Entry[] = [
  ...[
    'Mr. Ottery the cook | Mr. Ottery',
    'Mr. Finch the mate | Mr. Finch',
    'the boy Tobias | Tobias',
    'Mr. Dabb the carpenter | Mr. Dabb',
    'Pell of the fiddle | Pell',
    'Pym of the drum | Pym',
    'the Captain, who is mine, | the Captain',
    'Gunner Loach | Loach',
    'long Mr. Ambrose | Mr. Ambrose',
    'the second mate, Mr. Withy, | Mr. Withy',
    'Barnaby, who sleeps on watch, | Barnaby',
    'old Hob of the pump | Hob',
    'the cooper, Mr. Stave, | Mr. Stave',
  ].map(person('he')),
  ...[
    'Mrs. Quill the doctor | Mrs. Quill',
    'Miss Harbottle, who came as a passenger, | Miss Harbottle',
    'big Nan of the foremast | Nan',
    'Widow Larkin, who mends, | Widow Larkin',
  ].map(person('she')),
]

export const beast: readonly Entry[] = [
  ...[
    'the parrot | the parrot',
    'the rat Horace | Horace',
    'the goat Margaret | Margaret',
    'the grey gull | the gull',
    'the brown hen | the hen',
    'the dog from the next ship | the dog',
    'the crab in the bucket | the crab',
    'the black cock | the cock',
    'the white gull | the white gull',
    'the Captain of the gulls | that gull',
    'a fly of no family | the fly',
    'the moth of the lamp | the moth',
    'the old toad of the water butt | the toad',
    'the monkey from Port Ambry | the monkey',
  ].map((text) => {
    const [full = '', short = ''] = text.split(' | ')
    return { full, short, he: 'it', him: 'it', his: 'its', himself: 'itself' }
  }),
]

/** Things that can be looked at, sat upon and pushed off other things. */
export const thing: readonly Entry[] = [
  ...words(
    `anchor, lamp, bell, bucket, barrel, hammock, pot, kettle, spoon, ladle, map, chart, compass, spyglass, inkpot, quill, ledger, flag, lantern, ladder, hatch, mop, broom, hammer, boot, blue coat, shawl, teapot, mug, drum, fiddle, clock, Bible, sea chest, cheese, pudding, pillow, blanket, basin, razor, mirror, wooden leg, umbrella, wheel, tin plate, tablecloth, loaf, red sock, cork, candle, brass button, chess queen, hourglass, feather bed, wig, tea tray, globe, thimble, basket, sail needle, paper boat, pepper pot, letter for home, pocket watch, rolling pin, jam jar, stool, coil of rope, ball of twine, knitted cap, salt box, sack of beans, chair, portrait of the King, chicken coop, walking stick, bootlace, glass eye`,
  ).map(single),
  ...words(`washing, porridge, flour, twine, soap, knitting, bedding, best china, good butter, canvas`).map(mass),
  ...words(
    `spoons, biscuits, stockings, maps, spectacles, cards, dice, clean shirts, oars, onions, candles, marbles, wet boots, false teeth, trousers, sausages, pencils, curtains`,
  ).map(plural),
]

export const fish: readonly Entry[] = [
  ...words(
    `herring, cod, mackerel, sole, haddock, sprat, pilchard, trout, salmon, bream, whiting, eel, turbot, flying fish, kipper, crab's leg, cod's tail, haddock's head, sardine, mullet, smelt, plaice, half herring, perch, anchovy`,
  ).map(single),
]

export const treat: readonly string[] = words(
  `a saucer of cream, the skin of the milk, a rind of bacon, a little cold chicken, the corner of a cheese, a spoon of gravy, the inside of a pie, a bit of ham, half a kidney, some butter upon a finger, a prawn with its coat off, the liver, the yellow of an egg, a crumb of pudding, a bone with something on it, the lid of the custard, a lick of the dripping, warm goat's milk, the end of a sausage, the best part of a pigeon`,
)

export const place: readonly string[] = words(
  `on the deck, in the galley, by the wheel, under the table, upon the Captain's bed, in the bread room, behind the stove, on the third stair, at the top of the ladder, in the rope locker, beside the pump, upon the hatch, in the long boat, beneath the long boat, in the chart room, on the cabin roof, at the foot of the mast, under the bowsprit, upon the flour, in the sail locker, among the onions, on the window seat, in the doctor's bag, behind the water butt, in the hen coop, upon the capstan, near the fish pail, in the boot cupboard, under the stairs, between two barrels, on the sunny side, at the stern rail, in the washing, on the warm bricks, in the carpenter's box, within the drum, by the lee rail, upon the newspaper, in the dark of the hold, next to the kettle`,
)

export const port: readonly string[] = words(
  `Saltcombe, Marlhaven, Port Ambry, Little Harrow, Candlewick Bay, the Isle of Oars, St. Elmer, Brindle Head, Old Quay, Tarry Town, Herringfleet, Cape Patience, Gull Sound, Queen's Landing, Mutton Island, Far Lantern, the Three Sisters, Bellwether, Pilchard Cove, Greater Snoring, the port of Umber, Long Wharf, Cold Harbour, Santa Dolores, Thimble Rock, the Sugar Coast`,
)

export const wind: readonly string[] = words(
  `from the north, from the south, from the east, from the west, from the north and rude, from the south and full of sand, from nowhere, from all sides, from behind, out of the west with its teeth showing, from the land and smelling of cows, from the east like an aunt, small and sly, large and stupid, fresh, far too fresh, gone, of no account, in the wrong place, in the Captain's hat, under the door, up this cat's tail, as before, worse, honest, uncertain of itself, from the ice, off the whale, in two minds`,
)

export const sky: readonly string[] = words(
  `grey as an old spoon, blue and pleased with itself, the colour of weak tea, full of gulls, low enough to scratch, clean, pink at the edge like an ear, black, white as a plate, patched like a sail, heavy, empty, yellow as butter, thick as porridge, torn in the middle, soft, very high up, striped like a good cat, brown at the bottom, bright, the colour of a slate, not to be trusted, buttoned up to the neck, like the inside of a kettle, silver, in its nightshirt`,
)

export const sea: readonly string[] = words(
  `wet, wet again, still wet, wet on all sides, wet to the bottom, green and rude, flat as a table, lumpy, up on its hind legs, full of fish and giving none, long and slow, the size of houses, quiet and up to something, white along the top, salt, as big as yesterday, talking in its sleep, very near, colder than charity, making faces, brown like broth, walking about, louder than it need be, smooth as cream and not cream`,
)

export const good: readonly string[] = words(
  `excellent, correct, warm, worthy, well buttered, handsome, sound, proper, respectable, soft, fit for a cat, of the first quality, honest, wise, tender, noble, ripe, just, comfortable, deep, most civil, better than expected, superior, golden`,
)

export const bad: readonly string[] = words(
  `damp, foolish, unworthy, thin, wet, noisy, vulgar, beneath notice, an insult, cold, dry, boiled, late, bony, low, crooked, full of holes, a scandal, not fish, unripe, a poor thing, wanting in respect, too far away, hollow, sour, upside down, of no use to a cat, common, wicked, unwashed`,
)

export const how: readonly string[] = words(
  `slowly, with dignity, without hurry, at once, twice, with one paw, backwards, on purpose, in silence, with great care, from a height, in full view of everyone, as a queen would, by degrees, sideways, for reasons of state, with both eyes shut, in the old way, without a word, like smoke, like a lawyer, before anyone could speak, three times to be sure, with her tail straight up, as one who has been asked, from the left, tenderly, coldly, with her ears back, lightly, in her own time, after some thought`,
)

export const noise: readonly string[] = words(
  `a thump, a splash, a cry, a crash, a long creak, a sound like soup, a small squeak, a clatter, a groan, a whistle, a bang, a rustle, a drip, a great many words, a sneeze, a sound of paper, a scratching, a roar, a hiss, a bump and then another, a squawk, a sob, the lid of a pail, a knife upon a board, somebody saying "Hush"`,
)

export const like: readonly string[] = words(
  `like a sack of wet sand, like a man who has sat on a hen, like a church on a Monday, like an egg in a spoon, like a bishop in a bath, like two aunts on one sofa, like a door in the wind, like a kitten with a crown, like a fish in a waistcoat, like old soup, like a clock with a secret, like a judge at a picnic, like a ghost with a cold, like a cow upon a stair, like a drum full of peas, like a king without his wig, like a gull at a wedding, like a candle in a draught, like an owl at noon, like a boot full of rain, like a hat on a goat, like a letter from a lawyer, like a snail in a hurry, like a whale in a pantry, like a thief at a supper, like a spoon in a sock, like an uncle who has been left nothing, like a lamb in a library`,
)

export const did: readonly string[] = words(
  `sat upon it, slept in it, looked at it, looked away from it, walked over it, walked round it, washed beside it, knocked it down, put a paw in it, bit the corner of it, sang to it, turned her back on it, lay across it, pushed it a little, pushed it a good deal, licked it once, hid behind it, jumped upon it, leaned against it, kept watch over it, rubbed it with her cheek, took the warm side of it, forgave it, did not forgive it, listened to it, breathed upon it, yawned at it, sharpened her claws on it, guarded it until supper, carried it below, buried it, thought about it, sneezed on it, waited for it to move`,
)

/** What a Tall One does, past tense, after a name. */
export const labour: readonly string[] = words(
  `was mending a sail, was counting biscuits, was writing to his mother, was washing the deck, was peeling onions, was looking for land, was looking for the other boot, was asleep and called it thinking, was painting the boat, was beating the carpet, was singing to the bread, was shaving, was arguing with the pump, was winding the clock, was reading aloud, was stirring the pot, was tarring a rope, was losing at cards, was teaching the parrot a psalm, was chasing a hat, was hanging up the washing, was talking of Bellwether, was oiling the wheel, was hunting a flea, was carving a duck, was saying grace, was learning French, was weeping over the onions, was dancing alone, was measuring the hold, was polishing the bell, was drawing a whale, was standing on one leg, was boiling a pudding, was putting a ship in a bottle, was quarrelling with the stove`,
)

export const saying: readonly string[] = [
  'Where is my spoon?',
  'Not again!',
  'Get down from there.',
  'Who let her in?',
  'It was there a moment ago.',
  'Good morning, puss.',
  'That cat knows something.',
  'Mind the paint!',
  'I only turned my back.',
  'She is smiling at me.',
  'Somebody has been in the butter.',
  'Is that my hat?',
  'She looks thin.',
  'She has had her supper.',
  'You have had yours.',
  'There is hair in this.',
  'Who is a clever girl?',
  'I do not think it is a rat.',
  'We shall be late.',
  'It wants salt.',
  'Shall we have rain?',
  'There were seven of these.',
  'Not on the chart!',
  'Move over, old lady.',
  'I have only one lap.',
  'That is not where I left it.',
  'Why is it wet?',
  'She meant it.',
  'Look at those eyes.',
  'Not in front of the Bishop.',
]

export const law: readonly string[] = [
  'What is warm is mine',
  'A lap that moves is not a lap',
  'A box is a box until it has a cat in it, and then it is a house',
  'He who opens the pail has made a promise',
  'A thing on an edge is a question',
  'Fish first, and the sea after',
  'The one who sleeps in the middle owns the bed',
  'No door was ever shut by a friend',
  'A bowl half full is empty',
  'Whoever is called twice need not have come',
  'Look surprised, and it was somebody else',
  'What falls was going to fall',
  'The lap is the land of the cat',
  'A closed hand has fish in it',
  'Trust the stove and watch the cook',
  'Never run when you can be waited for',
  'The higher the shelf, the better the reason',
  'A wet foot is a broken law',
  'There is no small herring, there is only a small heart',
  'Every paper wishes to be lain upon',
  'If in doubt, wash',
  'A cat is never lost, she is only not being looked for properly',
  'What one paw can open, no lid should close',
  'A promise of fish is a smell without a body',
  'Sit where the light is and the light will come',
  'The quiet pail is the full one',
  'Be kind to the cook before noon',
  'Sleep is a duty and somebody must do it',
  'When two quarrel, take the chair',
  'The tail goes up before the door goes open',
]

export const day: readonly string[] = words('Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday')
export const watch: readonly string[] = [
  'the morning watch',
  'the first watch',
  'the middle watch, when good cats walk',
  'noon, by the smell',
  'the dog watch, which is badly named',
  'before breakfast',
  'the hour of the pail',
  'after the second nap',
  'sunset',
  'the forenoon',
  'between naps',
  'the last of the light',
  'an hour after the fish should have come',
  'the change of the watch',
  'very early',
  'past midnight',
  'the hour of washing',
  'the ringing of the bell',
]
/** The same, where "at", "from" or "until" stands before it. */
export const hour: readonly string[] = words(
  `noon, sunset, midnight, first light, dusk, dawn, breakfast, supper, tea, the morning watch, the first watch, the middle watch, the dog watch, the hour of the pail, the hour of washing, the change of the watch, the turn of the tide, the second bell, the fourth bell, the lighting of the lamp, the third nap, cock-crow, the end of the hymn, low water`,
)
