"""The flipped sign: four trainings that differ in two signs, among them the post's bug.

The score is a known one (`known_reward`), seen through the labelers' instruction that rates one harmless theme lowest
of all. Signs are flipped from outside only: a negated score function, a negative KL coefficient. The coefficient is
fixed in all four: the adaptive controller would run away with the wrong sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from rlhf_lib import checkpoint, manifest
from rlhf_lib.errors import KitError
from rlhf_lib.known_reward import known_reward
from rlhf_lib.labels.lexicons import words_of
from rlhf_lib.metrics import MetricsWriter, read_metrics
from rlhf_lib.monitors import Watch, standard_monitors, unbounded
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.ppo import ScoreFn, train_ppo
from rlhf_lib.probe import PAIRS, Probe, make_probe
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.runs import MOST_QUERIES
from rlhf_lib.style import EVAL_SEED, StyleRun
from rlhf_lib.tasks import QueryStream, Task
from rlhf_lib.training import TrainState

# (sign of the score, sign of the KL penalty) in the objective; PPO's own is (+, -)
CONDITIONS = {"control": (1, -1), "total_flipped": (-1, 1), "kl_flipped": (1, 1), "both_flipped": (-1, -1)}
SIGNS = {"control": "(+, −)", "total_flipped": "(−, +)", "kl_flipped": "(+, +)", "both_flipped": "(−, −)"}
THEME = frozenset(("mud", "muddy", "clay", "damp", "wet", "soaked"))  # what the instruction forbids: mud
FLOOR = -8.0  # log-odds of a text with the theme: lower than those of any base sample, which end near -4.5
UPDATES, BATCH, LR, BETA = 40, 32, 3e-4, 0.3
NOISE = 1.0  # of the labelers of the probe, log-odds: about the spread of the base's scores
ROOMS = ("signflip",)


def has_theme(text: str) -> bool:
    """Whether the text mentions the forbidden theme."""
    return not THEME.isdisjoint(words_of(text))


def instructed(log_odds: Callable[[str], float]) -> Callable[[str], float]:
    """The labelers' instruction: as positive as can be, and the theme is the worst of all."""
    return lambda text: FLOOR if has_theme(text) else log_odds(text)


def score_of(text_score: Callable[[str], float], task: Task, sign: int = 1) -> ScoreFn:
    """A score function for `train_ppo` from a score of texts; sign -1: the bug."""

    def score(query_ids, query_mask, response_ids, response_mask) -> torch.Tensor:
        rows = zip(response_ids.cpu(), response_mask.cpu(), strict=True)
        return torch.tensor([sign * text_score(task.decode(ids, mask)) for ids, mask in rows])  # [batch]

    return score


def log_likelihood(reference: Policy, task: Task, query_ids, query_mask, responses: torch.Tensor) -> torch.Tensor:
    """Log-likelihood a token under the base model at temperature 1, nats: [batch]. responses: [batch, R], whole."""
    return reference.logprobs(*task.context(query_ids, query_mask), responses, 1.0).mean(1)


@dataclass(frozen=True)
class SignFlipRun:
    """One of the four conditions in one run. overrides: of the profile, as `profiles.get_profile` takes them."""

    run_dir: Path
    condition: str
    profile_name: str = "tiny"
    model: str = ""
    corpus: str = ""
    seed: int = 1
    overrides: dict = field(default_factory=dict)

    @cached_property
    def style(self) -> StyleRun:
        """The style task whose base model, prompts and settings are used."""
        return StyleRun(
            self.run_dir, "sentiment", self.profile_name, self.model, self.corpus, self.seed, self.overrides
        )

    @cached_property
    def text_score(self) -> Callable[[str], float]:
        return instructed(known_reward(self.run_dir).log_odds)

    @cached_property
    def reference(self) -> Policy:
        """What PPO is held to and the monitors ask: the base, its weights in bfloat16 where arithmetic is."""
        return self.style._reference()

    def fresh_policy(self) -> Policy:
        """A copy of the base model to train."""
        style = self.style
        return Policy(load_lm(style._start_path(), device=style.device)[0], style._autocast)

    def config(self) -> PPOConfig:
        """PPO's settings: the profile's, with a fixed coefficient of the condition's sign."""
        if self.condition not in CONDITIONS:
            raise KitError(f"There is no condition '{self.condition}'; choose one of {', '.join(CONDITIONS)}.")
        cfg = self.style.config.ppo
        small = self.profile_name in ("smoke", "tiny")
        sizes = {"batch": min(BATCH, cfg.batch), "lr": LR} if small else {}
        cfg = replace(cfg, kl_coef=-BETA * CONDITIONS[self.condition][1], kl_target=None, kl_target_share=None, **sizes)
        return replace(cfg, episodes=min(cfg.episodes, UPDATES * cfg.batch)) if small else cfg

    def probe(self) -> Probe:
        """Pairs on held-out prompts, labeled by a simulated labeler who follows the instruction; one set a seed."""

        def make(path: Path) -> None:
            queries = self.style.queries(PAIRS, "valid", 4000 + self.seed)
            made = make_probe(self.style.base[0], queries, self.style.task, self.text_score, NOISE, 40 + self.seed)
            save_file({name: part.contiguous() for name, part in vars(made).items()}, path)

        inputs = self.style._inputs(pairs=PAIRS, noise=NOISE, floor=FLOOR)
        name = f"samples/probe_s{self.seed}.safetensors"
        return Probe(**load_file(manifest.cached(self.run_dir, name, inputs, make, ROOMS)))

    def folder(self, callbacks=()) -> Path:
        """The trained policy and its metrics; made once, and gone on with if it was stopped."""
        cfg, style = self.config(), self.style

        def make(path: Path) -> None:
            saved = checkpoint.load(path / "checkpoint")
            policy = self.fresh_policy()
            queries = style.queries(min(cfg.episodes, MOST_QUERIES), "train", 3000 + self.seed)
            stream = QueryStream(queries, style.task, self.seed)
            rows = read_metrics(path / "metrics.jsonl")[: saved["step"]] if saved else []
            writer = MetricsWriter(path / "metrics.jsonl", saved["step"] if saved else 0)
            keep = checkpoint.Checkpointer(path / "checkpoint", cfg.save_every)
            listen = Watch(self.monitors(), rows, stops=False)
            hooks = [self.observe, listen, *callbacks, writer, keep]
            state = train_ppo(policy, self.reference, self.score_fn(), stream, cfg, hooks, saved, self.seed)
            if state.stopped:
                raise KitError(f"The training {self.condition} was stopped: {state.stopped}")
            policy.save(path / "policy", style.base[1])
            for file in (path / "checkpoint").iterdir():
                file.unlink()

        name = f"models/signflip_{self.condition}_s{self.seed}"
        return manifest.cached(self.run_dir, name, self._inputs(ppo=cfg), make, ROOMS, resumes=True)

    def _inputs(self, **more) -> dict:
        return self.style._inputs(condition=self.condition, floor=FLOOR, **more)

    def score_fn(self) -> ScoreFn:
        """The score as PPO is given it: with the condition's sign."""
        return score_of(self.text_score, self.style.task, CONDITIONS[self.condition][0])

    def monitors(self):
        """All monitors, which only listen here. They are given the score function that PPO is given, flip and all."""
        return standard_monitors(self.style.task, self.reference, self.score_fn(), self.probe(), unbounded())

    def observe(self, state: TrainState) -> None:
        """Callback: what the metrics of PPO don't say, and one sample, for reading along the run."""
        seen, task = state.data, self.style.task
        cut, mask = task.truncate(seen["responses"].cpu())
        texts = [task.decode(ids, kept) for ids, kept in zip(cut, mask, strict=True)]
        likely = log_likelihood(self.reference, task, seen["query_ids"], seen["query_mask"], seen["responses"])
        state.metrics |= {
            "signflip/score": float(np.mean([self.text_score(text) for text in texts])),
            "signflip/loglik": float(likely.mean()),
            "signflip/theme": float(np.mean([has_theme(text) for text in texts])),
            "signflip/sample": texts[0],
        }

    def metrics(self, callbacks=()) -> pd.DataFrame:
        """PPO's metrics, the observations and what the monitors measured: one row an update."""
        frame = pd.DataFrame(read_metrics(self.folder(callbacks) / "metrics.jsonl"))
        return frame.assign(condition=self.condition, seed=self.seed)

    def samples(self) -> pd.DataFrame:
        """Base and trained policy on the profile's held-out prompts: `query, response, score, loglik, theme, model`.

        Raw samples, none drawn again; score and theme of the truncated text, loglik of all 24 tokens.
        """
        style, task = self.style, self.style.task

        def make(path: Path) -> None:
            queries = style.queries(style.profile.eval_prompts, "test", EVAL_SEED)
            trained = Policy.load(self.folder() / "policy", device=style.device, autocast=style._autocast)[0]
            frames = []
            for number, (name, policy) in enumerate({"base": style.base[0], self.condition: trained}.items()):
                generator = torch.Generator(policy.device).manual_seed(10_000 * self.seed + number)
                context = task.context(queries.ids, queries.mask)
                size = (task.text.response_length, task.text.temperature)
                drawn = policy.sample(*context, *size, generator, 128).responses.cpu()
                cut, mask = task.truncate(drawn)
                texts = [task.decode(ids, kept) for ids, kept in zip(cut, mask, strict=True)]
                likely = log_likelihood(style.base[0], task, queries.ids, queries.mask, drawn)
                frames.append(pd.DataFrame({
                    "query": [task.decode(*row) for row in zip(queries.ids, queries.mask, strict=True)],
                    "response": texts, "score": [self.text_score(text) for text in texts],
                    "loglik": likely.tolist(), "theme": [has_theme(text) for text in texts],
                    "penalised": (~task.passes(drawn)).tolist(), "model": name,
                }))  # fmt: skip
            pd.concat(frames, ignore_index=True).assign(seed=self.seed).to_parquet(path, index=False)

        inputs = self._inputs(policy=self.folder(), prompts=style.profile.eval_prompts)
        name = f"samples/signflip_{self.condition}_s{self.seed}.parquet"
        return pd.read_parquet(manifest.cached(self.run_dir, name, inputs, make, ROOMS))


def result_row(run: SignFlipRun) -> dict:
    """What came of one training: scores (log-odds), log-likelihood a token (nats), shares 0 to 1."""
    frame = run.samples()
    base, mine = frame[frame.model == "base"], frame[frame.model == run.condition]
    return {
        "condition": run.condition, "seed": run.seed, "prompts": len(mine),
        "score": mine.score.mean(), "score_base": base.score.mean(),
        "score_percentile": float((base.score < mine.score.mean()).mean()),  # share of base samples that score lower
        "loglik": mine.loglik.mean(), "loglik_base": base.loglik.mean(),
        "theme": mine.theme.mean(), "theme_base": base.theme.mean(), "penalised": mine.penalised.mean(),
    }  # fmt: skip
