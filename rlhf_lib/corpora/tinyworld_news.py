"""The plots of the embedded world's articles and posts: what happened, and the sentences that say so.

Each kind lists its ``main`` sentences (main facts first, as news is written), its ``details``, and its
``summary`` sentences. Summaries of articles compress the lead, as newspaper highlights do: much of its wording, but no
sentence of it whole. Summaries of posts are said anew, as a writer's own TL;DR is.
"""

ARTICLES = {
    "election": {
        "main": [
            ["{p1} was elected {office} of {town} on {day} with {n1} votes.",
             "{p1} won the race for {office} of {town} on {day} by {n1} votes."],
            ["{p1} beat {p2}, a {job} who had held the office for {n2} days.",
             "{p2}, a {job} who had held the office for {n2} days, came second."],
            ["The new {office} has promised to {plan} before {month} for {n7} dollars.",
             "The winner told {n6} people at the {site} that the first step was to {plan}."],
        ],
        "details": [
            ["Voters stood in line at the {site} for {n4} minutes on {day}."],
            ["{p3}, who counted the votes, said the work took {n3} minutes."],
            ["The last vote for {office} was held in {month2} and {n5} people took part."],
        ],
        "summary": [
            ["{p1} is the new {office} of {town}.", "{p1} was elected {office} with {n1} votes.",
             "{p1} won the race for {office} by {n1} votes.", "{town} chose {p1} as its {office}."],
            ["{p2}, a {job}, came second.", "{p1} beat a {job} named {p2}.", "{p2} lost after {n2} days in office."],
            ["The new {office} wants to {plan}.", "The winner means to {plan} for {n7} dollars.",
             "There are plans to {plan} before {month}."],
        ],
    },
    "fire": {
        "main": [
            ["A fire at the {site} in {town} hurt {n1} people on {day}.",
             "A fire burned down the {site} in {town} on {day} and hurt {n1} people."],
            ["Fire chief {p1} said it was started by {cause}.",
             "It was started by {cause}, according to fire chief {p1}."],
            ["It took {n2} firefighters from {town2} until {day2} to put it out.",
             "The damage was put at {n3} thousand dollars by {p2}, the owner."],
        ],
        "details": [
            ["{p3}, a {job} who lives nearby, saw the smoke first."],
            ["The {site} had been painted in {month} for {n4} dollars."],
            ["Those who were hurt were taken to a clinic in {town3} by {p4}."],
        ],
        "summary": [
            ["{n1} people were hurt in a fire at the {site}.", "A fire at the {site} hurt {n1} people.",
             "Fire hurt {n1} people in {town}.", "A fire in {town} burned the {site}."],
            ["Fire chief {p1} blamed {cause}.", "The cause was {cause}.", "{p1} said that {cause} had started it."],
            ["{n2} firefighters put it out on {day2}.", "The owner lost {n3} thousand dollars.",
             "{n2} firefighters came from {town2}."],
        ],
    },
    "theft": {
        "main": [
            ["{p1}, a {job} from {town}, stole {goods} from the {site} on {day}.",
             "Police in {town} caught {p1}, a {job}, with {goods} from the {site} on {day}."],
            ["A judge named {p2} gave the thief {punish} in {month}.",
             "The thief was given {punish} by a judge named {p2} in {month}."],
            ["The owner, {p3}, had paid {n1} dollars for it in {town2}.",
             "It was found under a bed in {town2} after {n2} days and given back to {p3}."],
        ],
        "details": [
            ["A guard named {p4} slept through the night of the theft."],
            ["{n3} people had signed a letter about crime near the {site}."],
            ["{p5}, a {job2}, said that the door had been left open since {day2}."],
        ],
        "summary": [
            ["{p1} stole {goods} from the {site}.", "Police caught {p1} with {goods}.",
             "A {job} named {p1} took {goods}.", "{p1} made off with {goods}."],
            ["A judge gave the thief {punish}.", "The thief was given {punish} in {month}.",
             "Judge {p2} decided on {punish}."],
            ["The owner paid {n1} dollars for it.", "It was found in {town2} after {n2} days.",
             "{p3} has it back after {n2} days."],
        ],
    },
    "match": {
        "main": [
            ["The {town} {team} beat the {town2} {team2} at {sport} by {n1} points on {day}.",
             "The {town} {team} won at {sport} on {day}, beating the {town2} {team2} by {n1} points."],
            ["{p1} scored {n2} of the points after joining from {town3} in {month}.",
             "{p1}, who joined from {town3} in {month}, scored {n2} of the points."],
            ["Coach {p2} said that {p3} would be back from injury on {day2}.",
             "The {team2} played without {p3}, who was hurt on {day2}, said coach {p2}."],
        ],
        "details": [
            ["A crowd of {n3} watched near the {site} in {town4}."],
            ["{p4}, a {job}, sold hot soup to the fans for {n4} cents."],
            ["The two teams will meet again in {month2} in front of {n5} fans."],
        ],
        "summary": [
            ["The {team} beat the {team2} by {n1} points.", "The {town} {team} won by {n1} points.",
             "{town} beat {town2} at {sport}.", "The {team} won at {sport} by {n1} points."],
            ["{n2} of the points came from {p1}.", "{p1}, who came from {town3}, scored {n2}.",
             "{p1} made {n2} points."],
            ["Coach {p2} said {p3} would be back.", "{p3} is hurt and could not play.",
             "{p3} was missed by coach {p2}."],
        ],
    },
    "company": {
        "main": [
            ["{p1} will open a plant that makes {makes} in {town} and hire {n1} workers.",
             "A plant that makes {makes} will open in {town} and hire {n1} workers, said its owner {p1}."],
            ["The plant will stand next to the {site} and cost {n2} million dollars.",
             "It will cost {n2} million dollars and stand next to the {site}."],
            ["{p2}, a former {job}, will run it from {month}.",
             "It will be run by {p2}, a former {job}, from {month}."],
        ],
        "details": [
            ["The firm also makes {makes2} in {town2} with {n4} workers."],
            ["{p3}, who leads the union, asked for {n3} dollars a day."],
            ["The town had tried to {plan} for the firm since {month2}."],
        ],
        "summary": [
            ["{p1} will open a plant in {town}.", "A plant in {town} will hire {n1} workers.",
             "{n1} workers will make {makes} in {town}.", "{p1} is to make {makes} in {town}."],
            ["The plant will cost {n2} million dollars.", "It will stand next to the {site}.",
             "It goes up near the {site} for {n2} million dollars."],
            ["{p2} will run it from {month}.", "{p2}, once a {job}, takes over in {month}.",
             "A {job} named {p2} is to run it."],
        ],
    },
    "storm": {
        "main": [
            ["A {storm} hit {town} on {day} and left {n1} homes without power.",
             "{n1} homes in {town} lost power on {day} when a {storm} hit the town."],
            ["It tore the roof off the {site} and trapped {n2} people there.",
             "{n2} people were trapped in the {site} when it tore the roof off."],
            ["Mayor {p1} said that the repairs would take until {month}.",
             "The repairs will take until {month} and cost {n3} thousand dollars, mayor {p1} said."],
        ],
        "details": [
            ["{p2}, a {job}, took in a family from {town2}."],
            ["The road to {town3} was closed for {n4} hours."],
            ["The last {storm} there came in {month2} and cost {n5} dollars."],
        ],
        "summary": [
            ["A {storm} left {n1} homes without power.", "{n1} {town} homes lost power.",
             "A {storm} struck {town} on {day}.", "Power failed in {n1} homes after a {storm}."],
            ["The roof of the {site} came off.", "{n2} people were trapped there.",
             "It trapped {n2} people in the {site}."],
            ["Mayor {p1} said repairs would take until {month}.", "Repairs end in {month}, said mayor {p1}.",
             "The repairs cost {n3} thousand dollars."],
        ],
    },
}  # fmt: skip

POSTS = {
    "gadget": {
        "main": [
            ["I bought a {gadget} from my {kin} {name} for {n1} dollars in {month}."],
            ["On {day} it {fault} while I was at a {party} in {town}.",
             "Then on {day}, during a {party} in {town}, it {fault}."],
            ["Now {name} and a {job2} refuse to pay the {n3} dollars back."],
        ],
        "details": [
            ["A {job} I know wants {n2} dollars to fix it."],
            ["My {kin2} {name2} says I should take the thing to court in {town3}."],
            ["I had saved {n4} dollars for it since I moved to {town2}."],
        ],
        "summary": [
            ["{name} sold me a {gadget} that {fault}.", "My {gadget} from {name} {fault}, paid {n1} dollars."],
            ["Want my {n1} dollars back from my {kin}.", "My {kin} gives no refund."],
        ],
    },
    "chore": {
        "main": [
            ["My {kin} {name} has lived with me in {town} for {n1} days."],
            ["The deal was to {chore} every {day} for {n3} dollars, and it never happens."],
            ["When I asked again in {month}, {name} threw a {gadget} at me."],
        ],
        "details": [
            ["I work as a {job} in {town2} and come home late from the {site}."],
            ["The rent is {n2} dollars and {name2}, my {kin2}, pays half of it."],
            ["Last {day2} I had to do it alone before a {party} with {n4} guests."],
        ],
        "summary": [
            ["{name} will not {chore}, ever.", "Living with my {kin}, who will never {chore}."],
            ["Got hit with a {gadget} for asking.", "{name} throws a {gadget} when asked to help."],
        ],
    },
    "party": {
        "main": [
            ["My {kin} {name} did not invite me to the {party} in {town} on {day}."],
            ["I found out from {name2}, my {kin2}, who had paid {n1} dollars for the food.",
             "My {kin2} {name2}, who had paid {n1} dollars for the food, told me."],
            ["{name} says it is because I broke a {gadget} in {month}."],
        ],
        "details": [
            ["I even gave them {goods} when they moved to {town2}."],
            ["There were {n2} guests, and one was a {job} nobody knew."],
            ["I spent that night with {name3} at home trying to {chore}."],
        ],
        "summary": [
            ["{name} left me out of a {party}.", "Not asked to the {party} by my own {kin}."],
            ["The reason is a broken {gadget}.", "All because of a {gadget}, {name2} told me."],
        ],
    },
    "secret": {
        "main": [
            ["I found out on {day} that my {kin} {name} {secret}."],
            ["{name2}, who is my {kin2}, has known it for {n1} days and said nothing.",
             "My {kin2} {name2} has known it for {n1} days and told nobody."],
            ["We are all supposed to meet at a {party} in {town} in {month}."],
        ],
        "details": [
            ["I was at work as a {job} at the {site} when the letter came from {town3}."],
            ["We once shared {goods} and a flat in {town2}."],
            ["I lent them {n2} dollars to {chore}."],
        ],
        "summary": [
            ["{name} {secret} and hid it.", "Learned that my {kin} {secret}."],
            ["{name2} knew all along.", "Do I go to the {party} with them or not."],
        ],
    },
    "pet": {
        "main": [
            ["My {pet} {name} ran away from our house in {town} on {day}."],
            ["My {kin} {name2} had left the gate open to {chore}.",
             "It was my {kin} {name2} who left the gate open to {chore}."],
            ["I am offering {n1} dollars, and a {job} saw the {pet} near the {site}."],
        ],
        "details": [
            ["We got the {pet} in {month} after a {party} in {town3}."],
            ["I have put up {n2} signs all the way to {town2}."],
            ["A stranger sold me {goods} for {n3} dollars instead of helping."],
        ],
        "summary": [
            ["{name} the {pet} is gone, reward of {n1} dollars.", "Lost {pet} in {town}, reward of {n1} dollars."],
            ["{name2} forgot the gate.", "Last seen by a {job} at the {site}."],
        ],
    },
    "work": {
        "main": [
            ["I have been offered a place as a {job} in {town} for {n1} dollars a week."],
            ["My {kin} {name} wants me to stay here and {chore} until {month}.",
             "But my {kin} {name} says I must stay and {chore} until {month}."],
            ["I have to answer {name2} from the {site} by {day}."],
        ],
        "details": [
            ["Here I only make {n2} dollars as a {job2}."],
            ["The last time I moved, my {gadget} {fault}."],
            ["We have a {party} coming up with {name3} in {town2} too."],
        ],
        "summary": [
            ["Should I move to {town} to be a {job}.", "Job as a {job} pays {n1} dollars, go or stay."],
            ["{name} is against it.", "My {kin} needs me to {chore}, answer due {day}."],
        ],
    },
}  # fmt: skip

PREAMBLE = "{desk}: {byline}."
GREETING = "{greeting}, {hello}."
