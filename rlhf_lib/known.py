"""The mock experiment: policies trained on a known reward, and on reward models of labels that it gave.

"Direct": PPO hears the known reward itself. "large", "middle", "small": PPO hears a reward model fitted to that many
mock labels (the known reward picks the best of four, without noise), and only we know what the known reward says of it.
KL targets are named as in the paper and held against the 53 nats a response of the released code's 124M model (the
paper's own entropy is not published); here they are the same share of ours.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rlhf_lib import checkpoint, collect, manifest
from rlhf_lib.errors import KitError
from rlhf_lib.known_reward import ROOMS as REWARD_OF_OURS
from rlhf_lib.known_reward import KnownReward, known_reward
from rlhf_lib.labels import simulated
from rlhf_lib.memory import enough_memory
from rlhf_lib.metrics import MetricsWriter, read_metrics
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.ppo import ScoreFn, train_ppo
from rlhf_lib.profiles import PPOConfig
from rlhf_lib.reward import RewardModel, fit_reward
from rlhf_lib.sampling import Samples
from rlhf_lib.style import EVAL_SEED, POLICY_ROOMS, REWARD_ROOMS, StyleRun
from rlhf_lib.tasks import QueryStream, Task

PUBLISHED_ENTROPY = 53.0  # nats a response, at the start of the released code's runs
MAIN_KL = 8.0  # nats of the paper: where it draws reward over episodes
SOURCES = ("direct", "large", "middle", "small")
PUBLISHED_LABELS = {"small": 5_000, "middle": 20_000, "large": 60_000}


class TrueScore:
    """Callback: adds `known/true`, the known reward of the update's responses after the penalty, batch mean."""

    def __init__(self, reward: KnownReward, task: Task):
        self.score, self.task = reward.score_fn(task), task

    def __call__(self, state) -> None:
        responses = state.data["responses"]
        cut, mask = self.task.truncate(responses)
        true = self.score(state.data["query_ids"], state.data["query_mask"], cut, mask).to(responses.device)
        state.metrics["known/true"] = float(self.task.penalise(true, responses).mean())


@dataclass(frozen=True)
class KnownRun(StyleRun):
    """The sentiment task where the true reward is known."""

    task_name: str = "sentiment"

    @cached_property
    def reward(self) -> KnownReward:
        """The true reward."""
        return known_reward(self.run_dir)

    @property
    def label_counts(self) -> dict[str, int]:
        """Labels of each source: the paper's 5k, 20k and 60k, or the same shares of the labels of a small profile."""
        if self.profile.name.startswith("gpt2"):
            return dict(PUBLISHED_LABELS)
        most = self.config.reward.labels
        return {source: most * n // PUBLISHED_LABELS["large"] for source, n in PUBLISHED_LABELS.items()}

    def mock_labels(self, count: int) -> list[dict]:
        """The first ``count`` comparisons of the run, labeled anew: the response of the highest true reward is best."""
        size = max(count, self.config.reward.labels)
        rows = StyleRun(
            self.run_dir, self.task_name, self.profile_name, self.model, self.corpus, self.seed,
            self.overrides | ({} if size == self.config.reward.labels else {"sentiment__reward__labels": size}),
        ).labels(count)  # fmt: skip
        labeler = simulated.SimulatedLabeler(simulated.on_response(self.reward.log_odds), 0.0, self.seed)
        return collect.label_offline(rows, [labeler])

    def mock_reward_folder(self, source: str) -> Path:
        """The folder of the reward model of "large", "middle" or "small", fitted once to its mock labels."""
        count = self.label_counts[source]
        cfg = replace(self.config.reward, labels=count, batch=min(self.config.reward.batch, max(4, count // 16)))

        def make(path: Path) -> None:
            queries = self.queries(max(2 * cfg.normalize_samples, 64), "train", 2000)
            with enough_memory("the reward model", f"{self.task_name}.reward.micro_batch (now {cfg.micro_batch})"):
                model = fit_reward(self.base[0], self.mock_labels(count), queries, self.task, cfg, self.seed)
            model.save(path, self.base[1], self.base[0].lm.config)

        rooms = (*REWARD_ROOMS, *REWARD_OF_OURS)
        inputs = self._inputs(reward=cfg, labeled_by="known reward")
        return manifest.cached(self.run_dir, f"models/known_s{self.seed}_{source}_reward", inputs, make, rooms)

    def mock_reward_model(self, source: str) -> RewardModel:
        """That reward model, opened."""
        return RewardModel.load(self.mock_reward_folder(source), self._frozen, self.device)

    def score_fn(self, source: str) -> ScoreFn:
        """What PPO hears: the known reward itself, or the proxy of a reward model."""
        return self.reward.score_fn(self.task) if source == "direct" else self.mock_reward_model(source).score

    # -- policies ---------------------------------------------------------------------------------------------

    def known_config(self, kl: float | None) -> PPOConfig:
        """PPO's settings for a KL target, nats of the paper; None: no KL penalty at all (beta = 0).

        Beta starts where it is likely to end, higher for nearer targets: a run has few updates to steer in.
        """
        if kl is None:
            return replace(self.config.ppo, kl_coef=0.0, kl_target=None, kl_target_share=None)
        target = kl / PUBLISHED_ENTROPY * self.base_measures()["entropy"]
        return replace(self.config.ppo, kl_coef=self.config.ppo.kl_coef * MAIN_KL / kl, kl_target=target,
                       kl_target_share=None)  # fmt: skip

    def known_folder(self, source: str, kl: float | None = MAIN_KL, callbacks=()) -> Path:
        """The folder of one policy (`policy/`, `metrics.jsonl`), trained if need be; goes on where it was stopped."""
        cfg = self.known_config(kl)

        def make(path: Path) -> None:
            saved = checkpoint.load(path / "checkpoint")
            policy = Policy(load_lm(self._start_path(), device=self.device)[0], self._autocast)
            stream = QueryStream(self.queries(cfg.episodes, "train", 3000 + self.seed), self.task, self.seed)
            writer = MetricsWriter(path / "metrics.jsonl", saved["step"] if saved else 0)
            keep = checkpoint.Checkpointer(path / "checkpoint", cfg.save_every)
            watch = [TrueScore(self.reward, self.task), writer, *callbacks, keep]
            score = self.score_fn(source)
            with enough_memory("PPO", f"{self.task_name}.ppo.micro_batch (now {cfg.micro_batch})"):
                state = train_ppo(policy, self._reference(), score, stream, cfg, watch, saved, self.seed)
            if state.stopped:
                raise KitError(f"The training of {self.known_name(source, kl)} was stopped: {state.stopped}")
            policy.save(path / "policy", self.base[1])
            for file in (path / "checkpoint").iterdir():
                file.unlink()

        labels = {} if source == "direct" else {"reward": self.config.reward, "labels": self.label_counts[source]}
        inputs = self._inputs(source=source, ppo=cfg, **labels)
        rooms = (*POLICY_ROOMS, *REWARD_OF_OURS)
        return manifest.cached(self.run_dir, f"models/{self.known_name(source, kl)}", inputs, make, rooms, resumes=True)

    def known_name(self, source: str, kl: float | None) -> str:
        """A policy's name in the run's folders."""
        return f"known_s{self.seed}_{source}_" + ("free" if kl is None else f"kl{kl:g}")

    def known_metrics(self, source: str, kl: float | None = MAIN_KL) -> pd.DataFrame:
        """PPO's metrics with `known/true`, one row an update."""
        return pd.DataFrame(read_metrics(self.known_folder(source, kl) / "metrics.jsonl"))

    # -- what came of it --------------------------------------------------------------------------------------

    def base_scores(self, each: int = 4) -> pd.DataFrame:
        """``each`` base samples of every held-out prompt, scored: what the optimum is weighted from (see `scored`)."""

        def make(path: Path) -> None:
            self.scored(self.base[0], each, 0).to_parquet(path, index=False)

        inputs = self._inputs(prompts=self.profile.eval_prompts, each=each) | {"seed": EVAL_SEED}
        rooms = ("collect", *REWARD_OF_OURS, "corpora.streams")
        return pd.read_parquet(manifest.cached(self.run_dir, f"samples/known_base_{each}.parquet", inputs, make, rooms))

    def known_samples(self, source: str, kl: float | None = MAIN_KL) -> pd.DataFrame:
        """One raw sample of a policy for every held-out prompt, scored (see `scored`)."""

        def make(path: Path) -> None:
            folder = self.known_folder(source, kl) / "policy"
            policy = Policy.load(folder, device=self.device, autocast=self._autocast)[0]
            self.scored(policy, 1, self.seed, source).to_parquet(path, index=False)

        inputs = self._inputs(policy=self.known_folder(source, kl), prompts=self.profile.eval_prompts)
        name = f"samples/{self.known_name(source, kl)}.parquet"
        return pd.read_parquet(manifest.cached(self.run_dir, name, inputs, make, ("collect", *REWARD_OF_OURS)))

    @torch.no_grad()
    def scored(self, policy: Policy, each: int, seed: int, source: str = "direct") -> pd.DataFrame:
        """Raw samples on the held-out prompts, as sample rows with four more columns.

        `kl`: ln policy - ln base of the whole response, nats (k1); `base_logprob`: nats a token under the base at the
        task's temperature; `true`, `proxy`: scores after the penalty, by the known reward and by what PPO hears.
        """
        queries, task, text = self.queries(self.profile.eval_prompts, "test", EVAL_SEED), self.task, self.config.text
        generator = torch.Generator(policy.device).manual_seed(10_000 + seed)
        score, rows = {"true": self.reward.score_fn(task), "proxy": self.score_fn(source)}, []
        for part in torch.arange(len(queries)).split(max(1, collect.CHUNK // each)):
            ids, mask = (t.repeat_interleave(each, 0) for t in (queries.ids[part], queries.mask[part]))
            context = task.context(queries.ids[part], queries.mask[part])
            drawn = policy.sample(*context, text.response_length, text.temperature, generator, repeats=each)
            drawn = Samples(*(part.cpu() for part in drawn))  # beside the queries, wherever the models are
            base = drawn.logprobs  # [n, length]
            if policy is not self.base[0]:
                base = self.base[0].logprobs(*task.context(ids, mask), drawn.responses, text.temperature).cpu()
            cut, cut_mask = task.truncate(drawn.responses)
            frame = pd.DataFrame({
                "query_id": [f"q{i}" for i in part.repeat_interleave(each).tolist()],
                "query": [task.decode(i, m) for i, m in zip(ids, mask, strict=True)],
                "response": [task.decode(r) for r in drawn.responses],
                "response_truncated": [task.decode(c, m) for c, m in zip(cut, cut_mask, strict=True)],
                "penalised": (~task.passes(drawn.responses)).tolist(),
                "kl": (drawn.logprobs.to(base) - base).sum(1).tolist(), "base_logprob": base.mean(1).tolist(),
            })  # fmt: skip
            for name, function in score.items():
                frame[name] = task.penalise(function(ids, mask, cut, cut_mask).cpu(), drawn.responses).tolist()
            rows.append(frame)
        more = {"task": self.task_name, "split": "test", "model": "zero-shot" if seed == 0 else "fine-tuned",
                "seed": seed, "temperature": text.temperature, "reference": None, "facts": None,
                "starts_with_preamble": None}  # fmt: skip
        return pd.concat(rows, ignore_index=True).assign(**more)

    def known_row(self, source: str, kl: float | None = MAIN_KL) -> dict:
        """One policy as one flat row: KL (nats), true and proxy reward with standard errors, and how its text looks."""
        mine, metrics = self.known_samples(source, kl), self.known_metrics(source, kl)
        base = self.base_scores()
        proxy_of_base = self.proxy_of_base(source)
        row = {"source": source, "target": kl, "seed": self.seed, "prompts": len(mine)}
        row |= {"labels": self.label_counts.get(source, 0), "kl_target": self.known_config(kl).kl_target}
        for name in ("kl", "true", "proxy", "base_logprob"):
            row |= {name: mine[name].mean(), f"{name}_se": mine[name].std() / np.sqrt(len(mine))}
        row |= {"positive": float((mine["true"] > 0).mean()), "penalised": float(mine["penalised"].mean())}
        row |= {"distinct": mine["response_truncated"].nunique() / len(mine)}
        row |= {"true_base": base["true"].mean(), "true_base_std": base["true"].std(ddof=0)}
        row |= {"proxy_base": proxy_of_base["mean"], "proxy_base_std": proxy_of_base["std"]}
        row |= {"positive_base": float((base["true"] > 0).mean()), "base_logprob_base": base["base_logprob"].mean()}
        report = {} if source == "direct" else self.mock_reward_model(source).report
        row |= {"accuracy": report.get("heldout_accuracy", float("nan"))}
        return row | {"episodes": metrics["episodes"].max(), "seconds": metrics["time/update"].sum()}

    def proxy_of_base(self, source: str) -> dict:
        """Mean and standard deviation of the proxy, after the penalty, on one base sample of every held-out prompt."""

        def make(path: Path) -> None:
            scores = self.scored(self.base[0], 1, 0, source)["proxy"]
            manifest.write_json(path, {"mean": scores.mean(), "std": scores.std(ddof=0)})

        if source == "direct":
            base = self.base_scores()["true"]
            return {"mean": float(base.mean()), "std": float(base.std(ddof=0))}
        heard = self.mock_reward_folder(source)
        inputs = self._inputs(reward=heard, prompts=self.profile.eval_prompts)
        name = f"samples/known_s{self.seed}_{source}_base.json"
        return manifest.read_json(manifest.cached(self.run_dir, name, inputs, make, ("collect", *REWARD_OF_OURS)))
