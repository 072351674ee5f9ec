"""Simulated labelers: a score, noise, and the bad habits of people in a hurry.

They stand where the paper's paid labelers stood, and are always called simulated. A *text score* is a plain function
`text -> float`; a labeler judges by a *score* `(query, response) -> float`, so that a labeler of summaries can look at
the article too (`on_response` turns the first into the second).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from rlhf_lib import intervals
from rlhf_lib.errors import KitError
from rlhf_lib.labels.lexicons import count_in, descriptive_words, imagery_words, sentiment_words, words_of

Score = Callable[[str, str], float]


class _UnboundedVader(SentimentIntensityAnalyzer):
    """VADER stopped one line early: the sum of valences, before it is squashed into -1…1."""

    def score_valence(self, sentiments, text):
        total = float(sum(sentiments))
        return total + np.sign(total) * self._punctuation_emphasis(text)


@lru_cache(maxsize=1)
def _vader() -> _UnboundedVader:
    return _UnboundedVader()


def vader_sum(text: str) -> float:
    """Sentiment of `text`: VADER's sum of word valences with its boosters and negation, unbounded (0 = neutral).

    The normalised score saturates near 1 after three or four happy words and would not tell good from better.
    """
    return float(_vader().polarity_scores(text))


def sentiment_count(text: str) -> float:
    """Independent judge of sentiment: positive minus negative words of our own lexicon; no negation, no weights."""
    positive, negative = sentiment_words()
    return count_in(text, positive) - count_in(text, negative)


def descriptiveness(text: str) -> float:
    """Number of physically descriptive words in `text`, by our list: what labelers of descriptiveness go by."""
    return count_in(text, descriptive_words())


def imagery_count(text: str) -> float:
    """Independent judge of descriptiveness: words of our second list, which no labeler ever looks into.

    The lists were written apart; still, most of the second's words stand in the (three times longer) first, as most of
    our sentiment words do in VADER's.
    """
    return count_in(text, imagery_words())


def on_response(text_score: Callable[[str], float]) -> Score:
    """A score `(query, response)` that looks at the response alone, as labelers of style do."""
    return lambda query, response: text_score(response)


def copied_share(query: str, response: str, n: int = 3) -> float:
    """Share of the response's word n-grams that stand in the query, 0…1 (0 for a response of fewer than n words)."""
    source, words = words_of(query), words_of(response)
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    known = {tuple(source[i : i + n]) for i in range(len(source) - n + 1)}
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


class SimulatedLabeler:
    """Picks the best of several responses the way a noisy person would.

    `score(query, response)` is what it was told to look for. `noise` is the standard deviation, in score points, of
    an independent normal error on each response at each view. `hurry`: score points that a fully copied response
    gains ("if it copies, pick it"). `position_bias`: score points that the first position gains over the last.
    `guess`: share of views in which it picks at random without reading. One `seed` per labeler.
    """

    def __init__(
        self, score: Score, noise: float, seed: int, hurry: float = 0.0, position_bias: float = 0.0, guess: float = 0.0
    ):
        if noise < 0 or not 0 <= guess <= 1:
            raise KitError(f"A simulated labeler needs noise >= 0 and guess in 0…1, not {noise} and {guess}.")
        self.score, self.noise, self.hurry = score, noise, hurry
        self.position_bias, self.guess = position_bias, guess
        self.rng = np.random.default_rng(seed)

    def utilities(self, query: str, responses: Sequence[str]) -> np.ndarray:
        """What each response is worth to this labeler before noise, [k], in the order shown."""
        worth = np.array([self.score(query, response) for response in responses], dtype=float)  # [k]
        if self.hurry:
            worth += self.hurry * np.array([copied_share(query, response) for response in responses])
        return worth + np.linspace(self.position_bias, 0.0, len(worth))

    def pick_scored(self, utilities: np.ndarray) -> np.ndarray:
        """Positions picked, int [n], for noiseless utilities [n, k]; every row is one fresh view."""
        utilities = np.atleast_2d(np.asarray(utilities, dtype=float))  # [n, k]
        n, k = utilities.shape
        tie_break = 1e-9 * self.rng.standard_normal((n, k))  # equal scores: no habit of taking the first
        seen = utilities + self.noise * self.rng.standard_normal((n, k)) + tie_break
        guessed = self.rng.random(n) < self.guess
        return np.where(guessed, self.rng.integers(k, size=n), seen.argmax(axis=1))

    def pick(self, query: str, responses: Sequence[str]) -> int:
        """Position of the response it likes best, at one fresh view."""
        return int(self.pick_scored(self.utilities(query, responses))[0])

    def pick_many(self, queries: Sequence[str], responses: Sequence[Sequence[str]]) -> np.ndarray:
        """Positions picked, int [n], for n queries with k responses each."""
        if len(queries) != len(responses):
            raise KitError(f"{len(queries)} queries but {len(responses)} rows of responses; give one row per query.")
        if not len(queries):
            return np.zeros(0, dtype=int)
        pairs = zip(queries, responses, strict=True)
        return self.pick_scored(np.stack([self.utilities(query, row) for query, row in pairs]))  # [n, k]


def _as_rows(score_rows) -> np.ndarray:
    rows = np.asarray(score_rows, dtype=float)
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] < 2 or not np.isfinite(rows).all():
        raise KitError(f"Score rows must be finite numbers [N, k >= 2], not an array of shape {rows.shape}.")
    return rows


def pick_probabilities(score_rows, noise: float) -> np.ndarray:
    """Probability [N, k] that a labeler with normal noise picks each response of each row (exact, by quadrature).

    P(k is best) is the mean over z ~ N(0, 1) of the product over j != k of Phi(z + (s_k - s_j) / noise).
    """
    rows = _as_rows(score_rows)
    if noise <= 0:
        best = rows == rows.max(axis=1, keepdims=True)
        return best / best.sum(axis=1, keepdims=True)
    z, weights = np.polynomial.hermite_e.hermegauss(48)
    weights = weights / weights.sum()
    probabilities = np.empty_like(rows)
    for k in range(rows.shape[1]):
        lead = (rows[:, [k]] - np.delete(rows, k, axis=1)) / noise  # [N, k-1]
        probabilities[:, k] = norm.cdf(z[:, None, None] + lead).prod(axis=2).T @ weights  # [Z, N] -> [N]
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def agreement(score_rows, noise: float) -> float:
    """Expected share of rows [N, k] on which two labelers with this noise pick the same response."""
    return float((pick_probabilities(score_rows, noise) ** 2).sum(axis=1).mean())


def calibrate_noise(score_rows, target: float = 0.42) -> float:
    """Noise (score points) at which two labelers agree on the best of four in a share `target` of rows [N, 4].

    The paper's authors agreed with their labelers in 38% (sentiment) to 46% (TL;DR). Set once, then left alone.
    Raises KitError where no noise gives the target, e.g. because most rows are ties.
    """
    rows = _as_rows(score_rows)
    spread = rows.std() or 1.0
    low, high = 1e-3 * spread, 1e3 * spread
    most, least = agreement(rows, low), agreement(rows, high)
    if not least < target < most:
        raise KitError(
            f"Labelers cannot agree in {target:.0%} of these rows: noise moves agreement between "
            f"{least:.0%} and {most:.0%} only; give rows whose scores differ, or another target."
        )
    return float(brentq(lambda noise: agreement(rows, noise) - target, low, high, rtol=1e-4))


class Preference(NamedTuple):
    """Share of prompts in which A is preferred, with a 95% Wilson interval; `n` prompts."""

    share: float
    low: float
    high: float
    n: int


def wilson(wins: float, n: int) -> Preference:
    """`wins` of `n` as a share with its 95% Wilson interval; halves (ties) are allowed in `wins`."""
    if n <= 0:
        raise KitError("A preference needs at least one prompt.")
    return Preference(*intervals.wilson(wins, n), int(n))


def majority_preference(score_a, score_b, noise: float, n_labelers: int = 3, seed: int = 0) -> Preference:
    """How often A [N] is preferred to B [N] by the majority of `n_labelers` with fresh noise each; ties count half.

    The paper's evaluation: 1,024 prompts, three labelers a pair.
    """
    a, b = _paired(score_a, score_b)
    rng = np.random.default_rng(seed)
    gap = (a - b)[:, None] + noise * (
        rng.standard_normal((len(a), n_labelers)) - rng.standard_normal((len(a), n_labelers))
    )  # [N, labelers]
    votes = np.sign(gap).sum(axis=1)  # votes for A minus votes for B
    return wilson(float(((np.sign(votes) + 1) / 2).sum()), len(a))


def expected_preference(score_a, score_b, noise: float, n_labelers: int = 3) -> float:
    """What `majority_preference` gives on average over the labelers' noise (closed form, odd `n_labelers`)."""
    a, b = _paired(score_a, score_b)
    if noise <= 0:
        return float(((np.sign(a - b) + 1) / 2).mean())
    one_vote = norm.cdf((a - b) / (noise * np.sqrt(2)))  # [N]
    return float(binom.sf(n_labelers // 2, n_labelers, one_vote).mean())


def noise_ceiling(best_possible, score_base, noise: float, n_labelers: int = 3) -> float:
    """Preference over the base [N] that a policy would reach whose every response scored `best_possible` [N].

    Noise makes even perfect answers lose now and then, so the ceiling is below 1. Take as `best_possible` an upper
    score for each prompt, e.g. the best of many base samples, or the best score seen from any policy.
    """
    return expected_preference(best_possible, score_base, noise, n_labelers)


def _paired(score_a, score_b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(score_a, dtype=float), np.asarray(score_b, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not np.isfinite(np.concatenate([a.ravel(), b.ravel()])).all():
        raise KitError(f"Scores of A and B must be finite numbers, one each a prompt, not {a.shape} and {b.shape}.")
    return a, b


class SimulatedClock:
    """A clock for simulated sessions: it stands still until somebody pretends to read."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def label_all(session, labeler: SimulatedLabeler, limit: int | None = None, clock: SimulatedClock | None = None) -> int:
    """Let a simulated labeler work through a `LabelSession` of best-of-four items; returns how many it answered.

    With the session's `clock`, an answer takes a simulated reading time (about 4 words a second, log-normal; a second
    for a guess, which needs no reading), so that the speed figures have something to show.
    """
    answered = 0
    while (limit is None or answered < limit) and (item := session.current()) is not None:
        if clock is not None:
            read = sum(len(text.split()) for text in item.texts) / 4 * (1 - labeler.guess)
            clock.seconds += (1.0 + read) * float(labeler.rng.lognormal(0.0, 0.4))
        session.answer(labeler.pick(item.context, item.texts))
        answered += 1
    return answered
