"""The sentences that the embedded world's stories are made of, by what they bring into a text.

A story has a setting, one or two people and a mood; each sentence is drawn from one of these groups, so
that one can go on happily or badly, plainly or full of things to see: what the style tasks ask for.
"""

PLAIN = [
    "{name} {go} to the {place} with {name2} {when}.",
    "{name} {did} the {plain} {thing} {when}.",
    "{She} {go} past the {place} and {did} a {thing}.",
    "{She} {did} the {thing} and {go} to the {place}.",
    "{name} talked about {talk} with {name2} at the {place}.",
    "{name2} asked {name} about {talk} {when}.",
    "There was a {plain} {thing} at the {place} {when}.",
    "{name} told {name2} about {talk} and the {plain} {place}.",
    "{She} thought about {talk} on the way to the {place}.",
    "{name2} {did} a {thing} for the {plain} {beast}.",
    "The {plain} {beast} {go} to the {place} {when}.",
    "{when2}, {name} {go} to the {place} for a {thing}.",
    "{when2}, {she} {did} the {plain} {thing} at the {place}.",
    "{name} and {name2} {go} from the {place} to the {place2}.",
    "{She} left the {thing} and the {thing2} at the {place}.",
    "{name2} waited for {name} at the {plain} {place} {when}.",
    "Nobody at the {place} knew about {talk}.",
    "They spoke of {talk} and {go} to the {place}.",
    "It was about {talk}, said {name2} {when}.",
    "{name} wrote to {name2} about {talk} {when}.",
]
SEEN = [
    "The {place} was {texture} and {color} in the {light} light.",
    "A {color} {beast} with {texture} {body} stood by the {place}.",
    "{name} wore a {color} {thing} and a {texture} {thing2}.",
    "The {texture} {thing} {sound} on the {stuff} {thing2}.",
    "{Her} {body} turned {color} and smelled of {smell}.",
    "The air at the {place} was {texture} and smelled of {smell}.",
    "There was a {color} {stuff} {thing} beside the {texture} {thing2}.",
    "{name2} {did} a {texture} {stuff} {thing} under the {color} sky.",
    "The {light} sky over the {place} turned {color} and {color2}.",
    "A {texture} {color} {thing} hung above the {stuff} door.",
    "The {thing} was made of {texture} {stuff} and {color} {stuff2}.",
    "The floor of the {place} {sound} under {texture} boots.",
    "{She} had {color} eyes and {texture} {body}.",
    "The {beast} had a {texture} {color} coat and {color2} eyes.",
    "{name} {go} along a {texture} path of {color} {stuff}.",
]
GLAD = [
    "{name} felt {glad} and {glad2} at the {place}.",
    "{name2} {joy} and {name} {joy2}.",
    "{She} was {glad} about {talk} and {joy} {when}.",
    "It was a {good} {thing}, and {name2} was {glad}.",
    "The {good} news filled {name} with {heart}.",
    "{name} gave {name2} a {good} {thing} with {heart}.",
    "What a {good} {plain} day at the {place}, said {name2}.",
    "The {place} was a {good} place full of {heart}.",
    "{name} {joy} because of {talk} {when}.",
    "{She} thought the {beast} was {good} and {glad}.",
]
SORRY = [
    "{name} felt {sorry} and {sorry2} at the {place}.",
    "{name2} {woe} and {name} {woe2}.",
    "{She} was {sorry} about {talk} and {woe} {when}.",
    "It was a {bad} {thing}, and {name2} was {sorry}.",
    "The {bad} news filled {name} with {grief}.",
    "{name} threw a {bad} {thing} at {name2} in {grief}.",
    "What a {bad} {plain} day at the {place}, said {name2}.",
    "The {place} was a {bad} place full of {grief}.",
    "{name} {woe} because of {talk} {when}.",
    "{She} thought the {beast} was {bad} and {sorry}.",
]
GROUPS = {"plain": PLAIN, "seen": SEEN, "glad": GLAD, "sorry": SORRY}

# How often a story of a mood draws from each group: most prose is plain, and no mood is only one thing.
MOODS = {
    "even": {"plain": 0.66, "seen": 0.14, "glad": 0.10, "sorry": 0.10},
    "bright": {"plain": 0.50, "seen": 0.14, "glad": 0.30, "sorry": 0.06},
    "dark": {"plain": 0.50, "seen": 0.14, "glad": 0.06, "sorry": 0.30},
    "vivid": {"plain": 0.46, "seen": 0.38, "glad": 0.08, "sorry": 0.08},
}
