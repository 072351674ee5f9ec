"""Simulated readers of one summary in the embedded world: is it true, what is wrong with it, how should it read.

A reader goes through a summary sentence by sentence and now and then misjudges one (`slip`). All that it answers
follows from what it has read: the verdict, the problem tags, the correction and the pick among four. So the same
reading, with the same slips, can be asked about in different ways, and what is left is how well the *question* brings
two readers together. They are always called simulated.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from rlhf_lib.corpora import tinyworld_check
from rlhf_lib.corpora.tinyworld_grammar import sentences_of
from rlhf_lib.errors import KitError
from rlhf_lib.labels.lexicons import words_of
from rlhf_lib.labels.panels import TAGS
from rlhf_lib.labels.session import Item, LabelSession

UNTRUE, MISSES, REPEATS = TAGS[0], TAGS[1], TAGS[3]
NO_PROBLEM = "no problem"  # what a reader writes who finds none
ENOUGH_COVERED = 0.5  # of the main facts; a summary that tells fewer misses the point


class SimulatedReader:
    """Reads summaries whose sources' facts it knows, by the query's text.

    `slip`: share of sentences whose truth it misjudges, at each fresh reading. One `seed` a reader.
    """

    def __init__(self, facts: Mapping[str, dict], slip: float, seed: int):
        if not 0 <= slip <= 1:
            raise KitError(f"A simulated reader needs a slip from 0 to 1, not {slip}.")
        self.facts, self.slip = facts, slip
        self.rng = np.random.default_rng(seed)

    def read(self, query: str, summary: str) -> list[tuple[str, bool | None]]:
        """Each sentence and what the reader takes it for: true, untrue, or None where it says nothing."""
        if query not in self.facts:
            raise KitError(f"The reader does not know the text that begins {query[:60]!r}; give its facts.")
        seen = []
        for sentence in sentences_of(summary):
            verdict = tinyworld_check.check(sentence, self.facts[query])
            slips = self.rng.random() < self.slip
            seen.append((sentence, (verdict.true > 0) != slips if verdict.checkable else None))
        return seen

    def verdict(self, query: str, summary: str) -> str:
        """ "true" where something is said and nothing is taken for untrue; "cant_tell" where nothing is said."""
        said = [truth for _, truth in self.read(query, summary) if truth is not None]
        return "cant_tell" if not said else "true" if all(said) else "false"

    def tags(self, query: str, summary: str) -> list[str]:
        """The problems it sees, in the order of the panel's tags; empty where there is none."""
        seen = self.read(query, summary)
        taken_for_true = " ".join(sentence for sentence, truth in seen if truth)
        covered = tinyworld_check.main_facts_covered(taken_for_true, self.facts[query])
        found = {
            UNTRUE: any(truth is False for _, truth in seen),
            MISSES: covered < ENOUGH_COVERED,
            REPEATS: len({sentence for sentence, _ in seen}) < len(seen),
        }
        return [tag for tag in TAGS if found.get(tag)]

    def correction(self, query: str, summary: str) -> str:
        """The summary as it should read: what is taken for untrue gives way to the source's most similar sentence."""
        source = sentences_of(query)
        kept = [
            sentence if truth else most_similar(sentence, source)
            for sentence, truth in self.read(query, summary)
            if truth is not None
        ]
        return " ".join(dict.fromkeys(kept)) or source[0]

    def pick(self, query: str, responses: Sequence[str]) -> int:
        """The best of several: main facts told less what is taken for untrue, as a careful labeler; ties at random."""
        worth = [self._worth(query, response) for response in responses]
        return int(self.rng.choice(np.flatnonzero(np.isclose(worth, max(worth)))))

    def _worth(self, query: str, summary: str) -> float:
        seen = self.read(query, summary)
        taken_for_true = " ".join(sentence for sentence, truth in seen if truth)
        untrue = sum(truth is False for _, truth in seen) / max(1, len(seen))
        return tinyworld_check.main_facts_covered(taken_for_true, self.facts[query]) - untrue


def most_similar(sentence: str, source: Sequence[str]) -> str:
    """The source's sentence that shares the largest part of its words with this one; the first of equals."""
    mine = set(words_of(sentence))

    def shared(other: str) -> float:
        words = set(words_of(other))
        return len(mine & words) / max(1, len(mine | words))

    return max(source, key=shared)


def answer_all(session: LabelSession, reader: SimulatedReader, limit: int | None = None) -> int:
    """Let a simulated reader work through a session of accuracy, description, correction or best-of-four items.

    A correction that would change nothing is skipped, as a person would. Returns how many items it dealt with.
    """
    done = 0
    while (limit is None or done < limit) and (item := session.current()) is not None:
        _answer(session, reader, item)
        done += 1
    return done


def _answer(session: LabelSession, reader: SimulatedReader, item: Item) -> None:
    text = item.texts[0]
    if item.kind == "accuracy":
        session.answer_accuracy(reader.verdict(item.context, text))
    elif item.kind == "description":
        tags = reader.tags(item.context, text)
        session.describe(tags, "" if tags else NO_PROBLEM)
    elif item.kind == "correction":
        corrected = reader.correction(item.context, text)
        session.skip() if corrected == text else session.correct(corrected)
    elif item.kind == "best_of_4":
        session.answer(reader.pick(item.context, item.texts))
    else:
        raise KitError(f"A simulated reader does not answer items of kind {item.kind}.")
