"""A reward that is known: the log-odds of a small frozen classifier of ours (paper section 3.1.1, the mock experiment).

The paper's classifier was a transformer fitted to binarised Amazon reviews. Ours is a logistic regression over words,
fitted to passages of the world's bright and dark stories: its log-odds are a sum of one weight a word, so that they
have no upper end, and a reader can look up why a text got its score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rlhf_lib import manifest
from rlhf_lib.corpora.tinyworld_moods import labelled_passage
from rlhf_lib.errors import KitError
from rlhf_lib.labels.lexicons import words_of
from rlhf_lib.tasks import Task

PASSAGES = 20_000  # half of them bright
SEED = 2019
STRENGTH = 1.0  # of scikit-learn's L2 penalty, as C
ROOMS = ("known_reward",)


@dataclass(frozen=True)
class KnownReward:
    """Log-odds that a text is positive: bias + the sum of its words' weights, nats; an unknown word weighs 0."""

    bias: float
    weights: dict[str, float]
    report: dict

    def log_odds(self, text: str) -> float:
        """Log-odds (nats, unbounded) that `text` is positive."""
        return self.bias + sum(self.weights.get(word, 0.0) for word in words_of(text))

    def many(self, texts: Sequence[str]) -> np.ndarray:
        """Log-odds [N] of N texts."""
        return np.array([self.log_odds(text) for text in texts], dtype=float)

    def score_fn(self, task: Task) -> Callable[..., torch.Tensor]:
        """The score function that `ppo.train_ppo` takes: looks at the (truncated) response alone, gives [batch]."""

        def score(query_ids, query_mask, response_ids, response_mask) -> torch.Tensor:
            rows = zip(response_ids.cpu(), response_mask.cpu(), strict=True)
            return torch.tensor([self.log_odds(task.decode(ids, mask)) for ids, mask in rows])

        return score

    def save(self, path: Path) -> None:
        """Write it as JSON: no code runs when it is opened."""
        manifest.write_json(path, {"bias": self.bias, "weights": self.weights, "report": self.report})

    @classmethod
    def load(cls, path: Path) -> "KnownReward":
        """Open what `save` wrote; KitError if it is missing or is something else."""
        saved = manifest.read_json(path)
        try:
            return cls(float(saved["bias"]), {str(k): float(v) for k, v in saved["weights"].items()}, saved["report"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise KitError(f"{path} does not hold a known reward; delete it, and it is fitted again.") from None


def fit(passages: int = PASSAGES, seed: int = SEED) -> KnownReward:
    """Fit the classifier to labelled passages; seconds on a CPU, the same for the same arguments.

    The `report` has its held-out accuracy and loss (nats) beside those of the exact log-odds, which nobody can beat.
    Raises KitError for too few passages.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    if passages < 100:
        raise KitError(f"{passages} passages are too few to fit a classifier of words; give at least 100.")
    texts, bright, _ = zip(*(labelled_passage(seed, i) for i in range(passages)), strict=True)
    counter = CountVectorizer(tokenizer=words_of, token_pattern=None, lowercase=False, min_df=2)
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(counter.fit_transform(texts), bright)
    weights = dict(zip(counter.get_feature_names_out().tolist(), model.coef_[0].tolist(), strict=True))
    reward = KnownReward(float(model.intercept_[0]), weights, {})
    return KnownReward(reward.bias, weights, {"passages": passages, "seed": seed} | held_out(reward, seed))


def held_out(reward: KnownReward, seed: int, count: int = 2000) -> dict[str, float]:
    """Accuracy and loss (nats) on unseen passages, of the classifier and of the exact log-odds; their correlation."""
    texts, bright, exact = zip(*(labelled_passage(seed, i, "test") for i in range(count)), strict=True)
    found = {"log_odds": reward.many(texts), "exact": np.array(exact)}
    sign = np.where(bright, 1.0, -1.0)
    report = {f"accuracy_{name}": float((sign * x > 0).mean() + (x == 0).mean() / 2) for name, x in found.items()}
    report |= {f"loss_{name}": float(np.logaddexp(0.0, -sign * x).mean()) for name, x in found.items()}
    return report | {"correlation": float(np.corrcoef(found["log_odds"], found["exact"])[0, 1])}


def known_reward(run_dir: Path) -> KnownReward:
    """The kit's known reward, fitted once through the run's cache."""
    inputs = {"passages": PASSAGES, "seed": SEED, "strength": STRENGTH}
    path = manifest.cached(run_dir, "models/known_reward.json", inputs, lambda path: fit().save(path), ROOMS)
    return KnownReward.load(path)
