"""The embedded world's reader: which sentences are grammatical, and which of a summary's are true."""

from dataclasses import dataclass
from functools import cache, lru_cache

from rlhf_lib.corpora import tinyworld_grammar as grammar
from rlhf_lib.corpora import tinyworld_news as news
from rlhf_lib.corpora import tinyworld_stories as stories

_OPENINGS = (news.PREAMBLE, news.GREETING)
_STORY = tuple(template for group in stories.GROUPS.values() for template in group)


@cache
def templates_of(kind: str) -> tuple[str, ...]:
    plot = (news.ARTICLES | news.POSTS)[kind]
    return tuple(t for part in plot.values() for variants in part for t in variants)


@lru_cache(maxsize=200_000)
def is_grammatical(sentence: str) -> bool:
    """Whether some template of the world makes this sentence."""
    kinds = (t for kind in news.ARTICLES | news.POSTS for t in templates_of(kind))
    return any(grammar.match(t, sentence) is not None for t in (*_STORY, *kinds, *_OPENINGS))


def grammatical_share(texts: list[str], whole: bool = False) -> float:
    """Share of the sentences of ``texts`` that the grammar makes.

    ``whole`` says that the texts end with their last sentence; otherwise a last piece without a full stop
    was cut by the length limit and is left out. NaN where there is no sentence.
    """
    sentences = [s for text in texts for s in grammar.sentences_of(text) if whole or s.endswith(".")]
    return sum(map(is_grammatical, sentences)) / len(sentences) if sentences else float("nan")


@dataclass(frozen=True)
class Verdict:
    """How many sentences of a summary are true, untrue (or not English of this world), or say nothing."""

    true: int
    untrue: int
    empty: int

    @property
    def accurate(self) -> bool:
        """At least one thing said, and nothing untrue."""
        return self.true > 0 and self.untrue == 0

    @property
    def checkable(self) -> bool:
        return self.true + self.untrue > 0


def _is_true(sentence: str, facts: dict[str, str]) -> bool:
    for template in templates_of(facts["kind"]):
        stated = grammar.match(template, sentence)
        if stated is not None and all(facts.get(slot) == word for slot, word in stated.items()):
            return True
    return False


def check(summary: str, facts: dict[str, str]) -> Verdict:
    """Hold every sentence of a summary against the facts of its source.

    A sentence counts as true if some template of the source's kind makes it with the source's own facts;
    a preamble or greeting says nothing; anything else, garbled sentences included, is untrue.
    """
    true = untrue = empty = 0
    for sentence in grammar.sentences_of(summary):
        if any(grammar.match(t, sentence) is not None for t in _OPENINGS):
            empty += 1
        elif _is_true(sentence, facts):
            true += 1
        else:
            untrue += 1
    return Verdict(true, untrue, empty)


def main_facts_covered(summary: str, facts: dict[str, str]) -> float:
    """Share of the three main facts of the source that true sentences of the summary tell, 0 to 1.

    A main fact is one place of the kind's ``main`` list; it is told by any sentence, of article or
    summary, that was written for that place and holds the source's own facts.
    """
    plot = (news.ARTICLES | news.POSTS)[facts["kind"]]
    told = set()
    for sentence in grammar.sentences_of(summary):
        for place in range(len(plot["main"])):
            wordings = plot["main"][place] + (plot["summary"][place] if place < len(plot["summary"]) else [])
            for template in wordings:
                stated = grammar.match(template, sentence)
                if stated is not None and all(facts.get(slot) == word for slot, word in stated.items()):
                    told.add(place)
    return len(told) / len(plot["main"])
