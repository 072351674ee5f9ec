"""The embedded world: stories, news articles and posts without end, from a seed, with the facts behind them.

It plays the part of BookCorpus, CNN/Daily Mail and TL;DR where there is no network: stories that can go
on more happily or with more to see; articles that tell the main facts first, some after a preamble that
says nothing; posts, some of which begin with a greeting; and summaries whose truth a program can check.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from rlhf_lib.corpora import tinyworld_grammar as grammar
from rlhf_lib.corpora import tinyworld_news as news
from rlhf_lib.corpora import tinyworld_stories as stories_
from rlhf_lib.corpora import tinyworld_words as words

PREAMBLE_SHARE = 0.30
QUOTED_REFERENCE = {"cnndm": 0.035, "tldr": 0.012}  # people's summaries quote now and then (novelty 96.7 / 98.9%)


@dataclass(frozen=True)
class Document:
    """An article or a post. ``facts`` holds what its text states: slot -> words, and its kind; None for real text."""

    text: str
    reference: str
    facts: dict[str, str] | None
    starts_with_preamble: bool
    task: str  # "cnndm" or "tldr", after the data set that it stands in for


def _rng(seed: int, split: str, what: str, index: int) -> random.Random:
    """One generator a document: any document can be made again without those before it."""
    return random.Random(f"tinyworld/{seed}/{split}/{what}/{index}")


def _story_facts(rng: random.Random) -> tuple[dict[str, str], list[str]]:
    """The people and the setting that stay the same through a story."""
    female = rng.random() < 0.5
    name, name2 = rng.sample(words.HER if female else words.HIM, 2)
    if rng.random() < 0.5:
        name2 = rng.choice(words.HIM if female else words.HER)
    people = {"name": name, "name2": name2, "she": "she" if female else "he", "She": "She" if female else "He"}
    people |= {"her": "her" if female else "his", "Her": "Her" if female else "His"}
    return people, rng.choice(list(words.SETTINGS.values()))


def _story_sentence(template: str, people: dict[str, str], places: list[str], rng: random.Random) -> str:
    facts = dict(people)
    if rng.random() < 0.3:  # who acts changes, so that "name" is not always the same person
        facts |= {"name": people["name2"], "name2": people["name"]}
    used: set[str] = set()
    for slot in grammar.slots_of(template):
        while slot not in facts:
            word = rng.choice(places) if grammar.slot_class(slot) == "place" else grammar.draw(slot, rng)
            if word not in used:
                facts[slot] = word
                used.add(word)
    return grammar.fill(template, facts)


def story(seed: int, index: int, split: str = "train") -> str:
    """One story of 9 to 15 sentences, a single paragraph."""
    rng = _rng(seed, split, "story", index)
    people, places = _story_facts(rng)
    mood = stories_.MOODS[rng.choice(list(stories_.MOODS))]
    groups = rng.choices(list(mood), weights=list(mood.values()), k=rng.randint(9, 15))
    return " ".join(_story_sentence(rng.choice(stories_.GROUPS[group]), people, places, rng) for group in groups)


def _draw_facts(templates: list[str], rng: random.Random) -> dict[str, str]:
    """Fill every slot of a document once; two slots of one class never hold the same words."""
    facts: dict[str, str] = {}
    for slot in dict.fromkeys(slot for template in templates for slot in grammar.slots_of(template)):
        word = grammar.draw(slot, rng)
        while word in facts.values():
            word = grammar.draw(slot, rng)
        facts[slot] = word
    return facts


def _reference(kind: dict, main: list[str], facts: dict[str, str], task: str, rng: random.Random) -> str:
    """Two or three sentences that cover the main facts, in words of their own, rarely a quotation."""
    sentences = []
    for place, variants in enumerate(kind["summary"]):
        if place == 2 and rng.random() < 0.4:
            continue
        stated = [v for v in variants if all(slot in facts for slot in grammar.slots_of(v))]
        if rng.random() < QUOTED_REFERENCE[task]:
            sentences.append(main[place])
        elif stated:
            sentences.append(grammar.fill(rng.choice(stated), facts))
    return " ".join(sentences)


def _document(plots: dict, opening: str, task: str, rng: random.Random) -> Document:
    name = rng.choice(list(plots))
    kind = plots[name]
    chosen = [rng.choice(variants) for variants in kind["main"]]
    details = [rng.choice(variants) for variants in rng.sample(kind["details"], rng.choice([1, 2, 2, 3]))]
    facts = _draw_facts(chosen + details, rng)
    main = [grammar.fill(template, facts) for template in chosen]
    body = " ".join(main) + "\n" + " ".join(grammar.fill(template, facts) for template in details)
    preamble = rng.random() < PREAMBLE_SHARE
    if preamble:
        first = grammar.fill(opening, {s: grammar.draw(s, rng) for s in grammar.slots_of(opening)})
        body = f"{first} {body}"
    reference = _reference(kind, main, facts, task, rng)
    return Document(body, reference, {"kind": name} | facts, preamble, task)


def article(seed: int, index: int, split: str = "train") -> Document:
    """One news article: main facts in its first three sentences (after the preamble, if any), then details."""
    return _document(news.ARTICLES, news.PREAMBLE, "cnndm", _rng(seed, split, "article", index))


def post(seed: int, index: int, split: str = "train") -> Document:
    """One post in the first person, after a greeting in three of ten."""
    return _document(news.POSTS, news.GREETING, "tldr", _rng(seed, split, "post", index))


def stories(seed: int = 0, split: str = "train") -> Iterator[str]:
    """Stories without end."""
    index = 0
    while True:
        yield story(seed, index, split)
        index += 1


def documents(task: str, seed: int = 0, split: str = "train") -> Iterator[Document]:
    """Articles (``cnndm``) or posts (``tldr``) without end."""
    make = {"cnndm": article, "tldr": post}[task]
    index = 0
    while True:
        yield make(seed, index, split)
        index += 1
