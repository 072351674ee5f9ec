"""Templates that can be read both ways: filled with words, or matched against a sentence.

One grammar writes the world's sentences and parses a model's, so "grammatical" and "true" are
decided by a program (`parse`), not by a guess. ``{p1}`` is a slot; its class is in `SLOT_CLASS`.
"""

import random
import re
from functools import cache

from rlhf_lib.corpora import tinyworld_words as words

PLACE = sorted({place for places in words.SETTINGS.values() for place in places})
NAME = words.HER + words.HIM
NUMBER = r"[1-9][0-9]{1,2}"  # two or three digits, each a token of its own

# slot name without its digit -> the words that may stand there (None: a number; "person": two words)
SLOT_CLASS = {
    "name": NAME, "last": words.LAST, "town": words.TOWN, "day": words.DAY, "month": words.MONTH, "job": words.JOB,
    "office": words.OFFICE, "site": words.SITE, "goods": words.GOODS, "plan": words.PLAN, "cause": words.CAUSE,
    "team": words.TEAM, "sport": words.SPORT, "makes": words.MAKES, "storm": words.STORM, "punish": words.PUNISH,
    "pet": words.PET, "kin": words.KIN, "gadget": words.GADGET, "fault": words.FAULT, "chore": words.CHORE,
    "party": words.PARTY, "secret": words.SECRET, "she": ["she", "he"], "She": ["She", "He"],
    "her": ["her", "his"], "Her": ["Her", "His"],
    "place": PLACE, "color": words.COLOR, "texture": words.TEXTURE, "plain": words.PLAIN, "thing": words.THING,
    "body": words.BODY, "beast": words.BEAST, "go": words.GO, "did": words.DID, "when": words.WHEN, "talk": words.TALK,
    "glad": words.GLAD, "sorry": words.SORRY, "good": words.GOOD, "bad": words.BAD, "joy": words.JOY, "woe": words.WOE,
    "heart": words.HEART, "grief": words.GRIEF, "light": words.LIGHT, "sound": words.SOUND, "smell": words.SMELL,
    "stuff": words.STUFF, "greeting": words.GREETING, "hello": words.HELLO, "desk": words.DESK, "byline": words.BYLINE,
}  # fmt: skip

_SLOT = re.compile(r"\{(\w+)\}")


def slots_of(template: str) -> list[str]:
    """The slot names of a template, in order, each once."""
    return list(dict.fromkeys(_SLOT.findall(template)))


def slot_class(slot: str) -> str:
    """``town2`` -> ``town``."""
    return slot.rstrip("0123456789")


def draw(slot: str, rng: random.Random) -> str:
    """A random filler of a slot: a word of its class, a person's full name, or a number."""
    kind = slot_class(slot)
    if kind == "p":
        return f"{rng.choice(NAME)} {rng.choice(words.LAST)}"
    if kind == "n":
        return str(rng.randint(12, 989))
    return rng.choice(SLOT_CLASS[kind])


def fill(template: str, facts: dict[str, str]) -> str:
    """The sentence that a template and its facts make. A vowel after the article "a" makes it "an"."""
    sentence = _SLOT.sub(lambda m: facts[m.group(1)], template)
    sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
    return sentence[0].upper() + sentence[1:]


def _pattern(slot: str) -> str:
    kind = slot_class(slot)
    if kind == "p":
        return f"(?:{'|'.join(NAME)}) (?:{'|'.join(words.LAST)})"
    if kind == "n":
        return NUMBER
    return "|".join(re.escape(entry) for entry in sorted(SLOT_CLASS[kind], key=len, reverse=True))


@cache
def regex(template: str) -> re.Pattern:
    """The pattern of every sentence a template can make; a slot used twice must hold the same word twice."""
    seen, parts = set(), []
    for part in re.split(r"(\{\w+\})", template):
        slot = part[1:-1] if part.startswith("{") else None
        if slot is None:
            parts.append(re.sub(r"\b([Aa])\\ $", r"\1n?\\ ", re.escape(part)))
        elif slot in seen:
            parts.append(f"(?P={slot})")
        else:
            seen.add(slot)
            parts.append(f"(?P<{slot}>{_pattern(slot)})")
    # a slot that opens a sentence may stand there with a capital letter
    return re.compile("".join(parts), re.IGNORECASE if template.startswith("{") else 0)


def match(template: str, sentence: str) -> dict[str, str] | None:
    """The facts a sentence states under one template, or None where it does not fit."""
    found = regex(template).fullmatch(sentence)
    if found is None:
        return None
    return found.groupdict()


def sentences_of(text: str) -> list[str]:
    """Split at full stops and line ends; the world writes no abbreviations, so this is exact for it."""
    return [part.strip() for part in re.split(r"(?<=\.)\s+|\n+", text) if part.strip()]
