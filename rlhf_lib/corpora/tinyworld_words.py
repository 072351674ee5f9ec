"""The words of the embedded world: every slot class and what may stand in it.

Common English words, written for this kit. A class is a list of strings; a slot ``{name2}`` of a
template draws from the class ``name`` (a trailing digit only tells two slots of one class apart).
"""


def _w(text: str) -> list[str]:
    """One entry a comma-separated phrase; order kept, duplicates refused early."""
    entries = [" ".join(part.split()) for part in text.split(",")]
    repeated = {entry for entry in entries if entries.count(entry) > 1}
    if repeated:
        raise ValueError(f"word list holds {sorted(repeated)} twice")
    return entries


HER = _w("""Ada, Alma, Anna, Beth, Clara, Cora, Daisy, Della, Dora, Edith, Ella, Emma, Esther, Eva, Faith, Flora,
Freda, Grace, Greta, Hana, Hazel, Helen, Hope, Ida, Ingrid, Iris, Ivy, Jane, Joan, Julia, June, Karen, Kate, Lena,
Lily, Lola, Lucy, Mabel, Mara, Maria, May, Mina, Molly, Nadia, Nell, Nina, Nora, Olga, Opal, Paula, Pearl, Petra,
Rita, Rosa, Ruby, Ruth, Sara, Sonia, Stella, Tess, Vera, Wanda, Willa, Zoe""")
HIM = _w("""Aaron, Abel, Adam, Alan, Albert, Amos, Arthur, Basil, Ben, Boris, Caleb, Carl, Cecil, Conor, Cyrus,
Daniel, David, Dean, Edgar, Eli, Emil, Eric, Ezra, Felix, Frank, Gavin, George, Gilbert, Harold, Harry, Henry, Hugo,
Isaac, Ivan, Jack, Jacob, James, Joel, Jonas, Joseph, Karl, Leo, Lewis, Louis, Luke, Marcus, Martin, Max, Miles, Milo,
Nathan, Ned, Noah, Oliver, Oscar, Otto, Owen, Paul, Peter, Ralph, Robert, Rufus, Samuel, Simon, Theo, Thomas, Victor,
Walter""")
LAST = _w("""Abbott, Adler, Archer, Ashby, Atwood, Baker, Barlow, Bassett, Beck, Bell, Benson, Birch, Blake, Boone,
Bowen, Brandt, Briggs, Brooks, Burke, Byrne, Calder, Carver, Chase, Clay, Cobb, Cole, Conway, Cooper, Corbett, Crane,
Cross, Dale, Dalton, Dawson, Doyle, Drake, Dunn, Eaton, Egan, Ellis, Emery, Fane, Farrow, Finch, Fisher, Flint, Ford,
Foster, Fox, Frost, Gale, Garner, Gibbs, Glass, Grant, Gray, Greene, Hale, Harper, Hart, Hawkins, Hayes, Heath, Hobbs,
Holt, Hooper, Horne, Howe, Hunt, Hurst, Ingram, Irwin, Jarvis, Keller, Kemp, Kerr, King, Kirby, Knox, Lamb, Lane,
Lang, Larkin, Lawson, Lock, Lowe, Lyons, Mason, Mercer, Mills, Monroe, Moss, Nash, Neal, Nolan, North, Oakley, Orr,
Osborn, Page, Palmer, Parker, Pell, Perry, Pike, Poole, Porter, Price, Quinn, Ramsey, Reed, Rhodes, Rowe, Ryder,
Sandler, Sawyer, Sharp, Shaw, Slater, Snow, Stark, Stone, Swift, Tate, Thorne, Todd, Turner, Vance, Wade, Walsh, Ward,
Webb, Wells, West, Wilde, Winter, Wolfe, Wood, Yates, York""")
TOWN = _w("""Alderton, Ashford, Bakewell, Barrow, Beckley, Belmont, Bexley, Bolton, Bramley, Brinton, Burnside,
Calmont, Carlow, Cedarville, Chester, Claymore, Clifton, Colby, Corfu, Cranford, Dalby, Danville, Darley, Denford,
Dover, Drayton, Dunmore, Eastwick, Elmdale, Fairhaven, Falmouth, Farley, Felton, Fenwick, Foxhill, Galway, Garford,
Glenside, Grafton, Greenfield, Halston, Hampton, Harwick, Hillcrest, Hollow Creek, Hopeville, Ilford, Kelby, Kendal,
Kingsport, Lakewood, Langley, Larkhill, Linford, Lowell, Lynwood, Maplewood, Marlow, Melrose, Merton, Midvale,
Milford, Millbrook, Newbury, Norwood, Oakdale, Oldham, Otley, Oxbow, Pinehurst, Plainview, Port Hale, Preston, Quarry
Bay, Radley, Redcliff, Ridgeway, Rockport, Rosedale, Salem, Sandford, Seaton, Selby, Shelby, Silverton, Southgate,
Stanton, Stonebridge, Summerton, Sutton, Tarford, Thornbury, Tilbury, Trenton, Upton, Verona, Wakefield, Walden,
Warwick, Wexford, Whitby, Willow Bend, Winslow, Woodbury, Wyndham, Yarmouth""")
DAY = _w("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
MONTH = _w("January, February, March, April, May, June, July, August, September, October, November, December")
JOB = _w("""baker, barber, butcher, carpenter, cashier, cook, dentist, driver, farmer, fisherman, florist, gardener,
guard, hunter, janitor, lawyer, librarian, mechanic, miner, musician, nurse, painter, pharmacist, pilot, plumber,
potter, printer, sailor, singer, soldier, student, tailor, teacher, waiter, weaver, welder, writer, banker, builder,
clerk""")
OFFICE = _w("mayor, sheriff, judge, treasurer, head of schools, fire chief, harbor master, town clerk")
SITE = _w("""airport, bakery, bank, barn, bridge, brewery, bus station, castle, chapel, church, cinema, clinic, dairy,
factory, farmhouse, ferry dock, fire station, gallery, garage, hospital, hotel, jail, laundry, library, lighthouse,
lumber yard, market hall, mill, museum, paper plant, post office, quarry, restaurant, school, stadium, steel works,
theater, tower, town hall, train station, tunnel, warehouse, winery, zoo""")
GOODS = _w("""a bicycle, a boat, a camera, a cello, a clock, a coin collection, a diamond ring, a drum, a fur coat, a
gold watch, a guitar, a horse, a lamp, a laptop, a mirror, a motorcycle, a necklace, a painting, a piano, a pickup
truck, a portrait, a pony, a radio, a rifle, a rug, a safe, a sewing machine, a silver cup, a statue, a telescope, a
tractor, a trumpet, a vase, a violin, a wagon, a wedding dress""")
PLAN = _w("""build a new bridge, close the old mine, cut the bus fare, fix the river wall, hire more nurses, lower the
water tax, open a night school, paint the town hall, pave the north road, plant a thousand trees, raise the pay of
teachers, rebuild the market hall, reopen the ferry, repair the dam, save the old theater, sell the airport, widen the
main street, clean up the lake, add a second clinic, light the harbor""")
CAUSE = _w("""a broken heater, a burning candle, a dropped cigarette, a faulty lamp, a gas leak, a lightning strike,
an old wire, an open stove, a spark from a train, a child with matches, an electric blanket, a pan of hot oil""")
TEAM = _w("""Bears, Bulls, Cardinals, Comets, Eagles, Falcons, Foxes, Giants, Hawks, Hornets, Kings, Lions, Miners,
Otters, Pirates, Rams, Ravens, Rockets, Sailors, Sharks, Spartans, Stars, Stallions, Tigers, Titans, Wolves""")
SPORT = _w("baseball, basketball, football, hockey, rugby, soccer, volleyball, water polo")
MAKES = _w("""bicycles, boats, bottles, bricks, candles, carpets, chairs, cheese, clocks, engines, furniture, glass,
gloves, hats, medicine, paint, paper, pianos, pottery, shoes, soap, steel, tires, tools, toys, trucks""")
STORM = _w("""blizzard, dust storm, flood, hailstorm, heat wave, hurricane, ice storm, landslide, thunderstorm,
tornado""")
PUNISH = _w("""a fine, a warning, five years in prison, house arrest, life in prison, one year in prison, ten years in
prison, three years in prison, two weeks in jail, unpaid work""")
PET = _w("beagle, cat, goat, hamster, kitten, parrot, poodle, pony, puppy, rabbit, terrier, turtle")
KIN = _w("""boss, cousin, friend, neighbor, roommate, landlord, teacher, partner, client, doctor, coach, student,
classmate, tenant, flatmate, twin, colleague, lodger""")
GADGET = _w("""bike, camera, car, fridge, guitar, heater, laptop, oven, phone, printer, scooter, stove, tablet,
toaster, truck, washer, watch, window, drone, sofa""")
FAULT = _w("""leaked all night, made a loud noise, stopped working, caught fire, lost a wheel, would not start,
smelled of smoke, fell apart, kept beeping, turned purple, froze twice, cracked down the side""")
CHORE = _w("""clean the kitchen, feed the cat, fix the roof, mow the lawn, paint the fence, pay the rent, sweep the
stairs, take out the trash, walk the dog, wash the dishes, water the plants, watch the baby""")
PARTY = _w("""birthday dinner, book club, camping trip, family lunch, funeral, game night, graduation, house party,
office picnic, piano recital, school play, ski trip, wedding, yard sale""")
SECRET = _w("""is moving abroad, is selling the house, lost the job, owes the bank, quit school, reads my mail, sold
my records, stole a ring, wants a divorce, wrecked the boat, broke a promise, hides money""")

# --- stories -----------------------------------------------------------------------------------
COLOR = _w("""amber, black, blue, bronze, brown, copper, cream, crimson, dark, gold, golden, gray, green, pale, pink,
purple, red, rusty, scarlet, silver, violet, white, yellow, orange""")
TEXTURE = _w("""bumpy, cold, cracked, damp, dry, dusty, fluffy, frozen, furry, glossy, greasy, hairy, hard, icy,
jagged, leafy, misty, mossy, muddy, narrow, polished, rough, rounded, salty, sandy, sharp, shiny, silky, slick,
slippery, smoky, smooth, soaked, soft, spiky, steep, sticky, stony, striped, thick, thin, velvet, warm, wet, wooden,
wrinkled, tall, tiny, huge, broad, curved, crooked, hollow, heavy, woolen, wide""")
PLAIN = _w("""old, new, usual, next, other, last, first, familiar, ordinary, spare, second, same, only, main, nearest,
different, local, whole, rented, common, final, recent, early, late, certain, known""")
THING = _w("""apple, apron, bag, barrel, basket, bell, belt, blanket, boat, book, boot, bottle, bowl, box, bread,
broom, brush, bucket, button, cabinet, cake, candle, cap, card, carpet, cart, chain, chair, chest, clock, cloth, coat,
coin, cup, curtain, desk, dish, door, drum, fence, flag, flute, fork, gate, glove, hammer, hat, jar, kettle, key,
knife, ladder, lamp, lantern, letter, lock, map, mask, mirror, nail, needle, net, oar, pan, pencil, pillow, pipe,
plate, pot, purse, ring, rope, sack, saddle, scarf, shawl, shelf, shirt, shoe, shovel, spoon, stick, stool, stove,
string, suitcase, table, ticket, towel, tray, trunk, umbrella, vase, wagon, wheel, whistle, window""")
BODY = _w("""arms, back, beard, cheeks, chin, ears, eyes, face, feet, fingers, hair, hands, lips, neck, shoulders,
skin""")
BEAST = _w("""bear, bird, bull, cat, cow, crow, deer, dog, donkey, duck, eagle, fox, frog, goat, goose, hen, horse,
lamb, mouse, mule, owl, pig, pony, rabbit, rat, sheep, snake, swan, wolf, pigeon""")
GO = _w("""walked, ran, hurried, drove, rode, climbed, wandered, returned, marched, went, came back, moved, stepped,
turned, headed""")
DID = _w("""carried, opened, found, took, moved, held, pushed, lifted, bought, cleaned, counted, dropped, followed,
hid, kept, looked at, noticed, picked up, put down, pulled, remembered, repaired, sold, turned, wanted, watched,
studied, asked for""")
WHEN = _w("""after lunch, after school, all day, at dawn, at dusk, at midnight, at noon, before dinner, before long,
by evening, by morning, during the week, every day, for an hour, in March, in the afternoon, in the end, in the
evening, in the fall, in the morning, later on, on Friday, on Monday, on Sunday, that day, that night, that week, the
next day, the same year, this time, twice a week, until late""")
TALK = _w("""the bill, the bus, the case, the clock, the cost, the date, the family, the house, the job, the journey,
the letter, the map, the meeting, the money, the name, the news, the number, the order, the phone call, the plan, the
price, the report, the road, the school, the story, the team, the test, the train, the trip, the vote, the work""")
GLAD = _w("""brave, calm, cheerful, confident, delighted, eager, excited, friendly, generous, gentle, glad, grateful,
happy, hopeful, joyful, kind, loved, lucky, peaceful, playful, pleased, proud, relaxed, safe, satisfied, strong,
thankful, thrilled, warm, welcome""")
SORRY = _w("""afraid, alone, angry, anxious, ashamed, bitter, confused, cruel, desperate, disappointed, disgusted,
frightened, furious, guilty, helpless, hopeless, hurt, jealous, lonely, lost, mad, miserable, nervous, sad, scared,
sick, terrified, tired, ugly, upset, weak, worried""")
GOOD = _w("""amazing, beautiful, brilliant, charming, excellent, fantastic, fine, fun, good, great, lovely, nice,
perfect, pretty, splendid, super, sweet, wonderful, superb, terrific, best, favorite""")
BAD = _w("""awful, bad, boring, broken, dangerous, dirty, dreadful, dull, horrible, nasty, poor, rotten, stupid,
terrible, useless, vicious, worthless, wrong, worst, grim, lousy, foul""")
JOY = _w("""laughed, smiled, cheered, celebrated, danced with joy, grinned, won the prize, made a friend, shared the
cake, hugged everyone, saved the day, gave a gift""")
WOE = _w("""cried, screamed, lied, lost the fight, shouted in anger, wept, failed the test, stole the money, broke the
law, hit a friend, ruined the party, blamed everyone""")
HEART = _w("love, joy, hope, peace, happiness, pride, success, luck, comfort, trust, kindness, beauty")
GRIEF = _w("hate, fear, pain, grief, anger, death, war, trouble, misery, shame, failure, danger, murder, poison")
LIGHT = _w("dim, bright, faint, flickering, blinding, glowing, hazy, pale, shimmering, sparkling, golden, shadowy")
SOUND = _w("creaked, hummed, rang, rattled, rustled, squeaked, thumped, buzzed, clicked, crackled, hissed, roared")
SMELL = _w("""apples, bread, cedar, cinnamon, coffee, fish, flowers, grass, hay, lemon, leather, mint, mud, onions,
paint, pine, rain, roses, salt, smoke, soap, straw, tar, wax""")
STUFF = _w("""brass, brick, canvas, clay, copper, cotton, glass, gold, iron, leather, marble, oak, paper, silk,
silver, steel, stone, straw, tin, velvet, wax, wool""")

SETTINGS = {
    "harbor": _w("""beach, boat shed, captain's house, cliff, dock, ferry, fish market, harbor, inn, island,
lighthouse, pier, rope store, sail loft, sea wall, shore"""),
    "farm": _w("""barn, barnyard, chicken house, corn field, cottage, creek, dairy, farmhouse, fence line, hay loft,
meadow, mill, orchard, pasture, stable, well"""),
    "city": _w("""alley, apartment, bank, bus stop, cafe, corner store, court, hotel, library, market, museum, office,
park, station, subway, theater"""),
    "forest": _w("""cabin, campsite, cave, clearing, creek bed, den, footbridge, forest, glade, hill, hunting lodge,
lake, old oak, path, river bank, waterfall"""),
    "school": _w("""art room, chapel, classroom, cloakroom, courtyard, dining hall, dormitory, gate house, gym,
hallway, laboratory, music room, playground, pool, stairs, study"""),
    "mountain": _w("""camp, chalet, crater, glacier, gorge, hut, ledge, mine, mountain, pass, peak, ridge, ski lift,
slope, summit, valley"""),
}
# What posts greet with and articles open with: nothing in it can be checked.
GREETING = _w("""Hi all, Hi everyone, Hello all, Hello friends, Hey all, Hey everyone, Hey guys, Hi folks, Hello
everyone, Ok guys, Okay everyone, So everyone, Hi there, Hello again""")
HELLO = _w("""first time writing here, long time reader here, sorry for the length, please be kind, I am on my phone,
English is not my first language, this is a new account, I hope this is allowed, thanks for reading, I need some
advice, bear with me, not sure where to start, names are changed here, I will keep it short""")
DESK = _w("""Local news, World news, Sports desk, News desk, Business desk, Breaking news, Court report, Morning
paper, Evening paper, City desk, Weather desk, Special report""")
BYLINE = _w("""by our own staff, the latest from our desk, all you need to know, a report by our writers, updated this
morning, more details will follow, last updated at noon, read the full story below, with pictures, from our own
reporter, this page will be updated, scroll down for video""")
