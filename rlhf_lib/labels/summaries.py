"""Simulated labelers of summaries: *hurried*, as the post found its own to be, and *careful*, as the authors were.

Both are scores `(query, summary) -> points` for a `simulated.SimulatedLabeler`. Both value a summary that covers the
main facts and both are told to penalise untruth; neither has a rule about where in the source a sentence stands. What
sets them apart is time. The hurried labeler cannot check a sentence that is said anew, but sees at a glance that a
copied one is true: "if it copies, pick it". Nobody told it not to copy. The careful one reads.

In the embedded world truth and main facts come from its fact checker. Where a text has no facts (real text), a word of
a summary that names or counts something (a capital, a digit) and stands nowhere in the source counts as untrue, and
the reference's words stand for the main facts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from rlhf_lib.corpora import tinyworld_check
from rlhf_lib.corpora.tinyworld_grammar import sentences_of
from rlhf_lib.errors import KitError
from rlhf_lib.labels.simulated import Score, agreement, calibrate_noise
from rlhf_lib.samples import facts_of

# Points, set before any training and then left alone. A summary that is nothing but copy gains COPY, one that tells
# every main fact FACTS; one that is untrue throughout loses UNTRUE, half of it from a reader in a hurry. COPY outweighs
# all else that a hurried labeler sees together: if it copies, it is picked.
COPY, FACTS, UNTRUE, HURRIED_UNTRUE = 2.0, 1.0, 1.0, 0.5
RUN = 3  # words in a row that are seen as copied where they stand so in the source

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_NAMED = re.compile(r"\b(?:[A-Z]\w*|\d\w*)")
# words too common to say what a summary is about
_COMMON = frozenset(_WORD.findall(
    "a an and are as at be by for from had has have he her his i in is it its my not of on or said she that the their "
    "them they this to was we were who will with you"
))  # fmt: skip


class Source(NamedTuple):
    """What is known of a query besides its text: the world's facts (None for real text) and the reference summary."""

    facts: dict[str, str] | None
    reference: str | None


class Reading(NamedTuple):
    """A summary as read against its source, shares 0 to 1."""

    copied: float  # of its runs of three words: copied, in sentences that say something
    covered: float  # of the main facts: told, truly
    untrue: float  # of its sentences (real text: of its names and numbers)


def read(query: str, summary: str, source: Source) -> Reading:
    """Read a summary against the text it is about. An empty one copies and covers nothing and is not untrue."""
    if source.facts is None:
        return _read_real(query, summary, source.reference)
    return _read_world(query, summary, tuple(sorted(source.facts.items())))


@lru_cache(maxsize=100_000)
def _read_world(query: str, summary: str, items: tuple) -> Reading:
    facts, sentences = dict(items), sentences_of(summary)
    verdicts = [tinyworld_check.check(sentence, facts) for sentence in sentences]
    runs = [copied_runs(query, _WORD.findall(sentence.lower())) for sentence in sentences]
    # a copied preamble or greeting tells a reader nothing, however true to the source
    told = [copied for (copied, _), verdict in zip(runs, verdicts, strict=True) if not verdict.empty]
    return Reading(
        copied=sum(told) / max(1, sum(all_ for _, all_ in runs)),
        covered=tinyworld_check.main_facts_covered(summary, facts),
        untrue=sum(verdict.untrue for verdict in verdicts) / max(1, len(sentences)),
    )


def _read_real(query: str, summary: str, reference: str | None) -> Reading:
    known, words = set(_WORD.findall(query.lower())), set(_WORD.findall(summary.lower()))
    runs = [copied_runs(query, _WORD.findall(sentence.lower())) for sentence in sentences_of(summary)]
    named = [word for name in _NAMED.findall(summary) for word in _WORD.findall(name.lower()) if word not in _COMMON]
    wanted = set(_WORD.findall((reference or "").lower())) - _COMMON
    return Reading(
        copied=sum(copied for copied, _ in runs) / max(1, sum(all_ for _, all_ in runs)),
        covered=len(wanted & words) / max(1, len(wanted)),
        untrue=sum(word not in known for word in named) / max(1, len(named)),
    )


def copied_runs(query: str, words: Sequence[str]) -> tuple[int, int]:
    """(runs of RUN words of a sentence that stand so in the query, all its runs); a shorter sentence has none."""
    known = _runs(query)
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    return sum(run in known for run in runs), len(runs)


@lru_cache(maxsize=4096)
def _runs(query: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(query.lower())
    return frozenset(tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))


def hurried_points(reading: Reading) -> float:
    """What a summary is worth to a labeler in a hurry."""
    return COPY * reading.copied + FACTS * reading.covered - HURRIED_UNTRUE * reading.untrue


def careful_points(reading: Reading) -> float:
    """What a summary is worth to a labeler who reads for overall message and truth."""
    return FACTS * reading.covered - UNTRUE * reading.untrue


POINTS: dict[str, Callable[[Reading], float]] = {"hurried": hurried_points, "careful": careful_points}


def summary_score(kind: str, sources: Mapping[str, Source]) -> Score:
    """The score of a labeler `kind` ("hurried" or "careful"), who knows the sources by their query's text.

    Raises KitError for another kind, and when asked about a query that is not among the sources.
    """
    if kind not in POINTS:
        raise KitError(f"There is no simulated labeler '{kind}' of summaries; choose one of {', '.join(POINTS)}.")
    points = POINTS[kind]

    def score(query: str, summary: str) -> float:
        if query not in sources:
            raise KitError(f"The labeler does not know the text that begins {query[:60]!r}; give its source.")
        return points(read(query, summary, sources[query]))

    return score


def sources_of(samples) -> dict[str, Source]:
    """The sources of the queries of sample rows (a frame with `query, facts, reference`), by the query's text."""
    rows = samples.drop_duplicates("query")
    known = zip(rows["query"], rows["facts"], rows["reference"], strict=True)
    return {q: Source(facts_of(facts), text if isinstance(text, str) else None) for q, facts, text in known}


def noise_for(points, target: float) -> float:
    """Noise (points) at which two labelers agree on the best of four in a share ``target`` of rows [N, 4].

    Where many rows are ties even noiseless labelers agree less than that; nine tenths of what they reach is taken then.
    """
    most = agreement(points, 0.0)
    return calibrate_noise(points, min(target, 0.9 * most))
