"""A PPO run of test size: a random GPT-2 of 64 symbols that is paid for writing the letter a."""

import torch

from rlhf_lib.policy import Policy
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.tasks import QueryStream, Task, build_queries
from tests.core.core_models import STYLE, TEXTS, tiny_lm, tiny_tokenizer

# How a matrix product is summed depends on the number of threads, and every sample after it on the sum: with one thread
# a seed gives the same run on every machine.
torch.set_num_threads(1)


class Patient(Task):
    """A task that penalises nothing: a random model hardly ever writes a full stop in time."""

    def passes(self, responses: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(responses), dtype=torch.bool)


def task() -> Task:
    return Patient("sentiment", STYLE, tiny_tokenizer())


def letter_score(of: Task, letter: str = "a"):
    """score_fn: how often the letter stands in the response, minus 1. [B, R] -> [B]."""
    token = of.encode(letter)[0]
    return lambda query_ids, query_mask, ids, mask: ((ids == token) & mask.bool()).float().sum(1) - 1.0


def config(updates: int, **changes) -> PPOConfig:
    settings = {"episodes": 16 * updates, "batch": 16, "lr": 1e-3, "kl_coef": 0.05, "micro_batch": 16, **changes}
    return PPOConfig(**settings)


def run(cfg: PPOConfig, callbacks=(), score_fn=None, resume=None, seed=1, reference=None):
    """Train from the same start each time; returns the final TrainState."""
    at_hand = task()
    start = reference or Policy(tiny_lm()).frozen_copy()
    policy = start.frozen_copy().requires_grad_(True)
    queries = QueryStream(build_queries(TEXTS, at_hand), at_hand)
    torch.manual_seed(seed)
    score = score_fn or letter_score(at_hand)
    return train_ppo(policy, start, score, queries, cfg, callbacks, resume=resume, seed=seed)
