"""The style tasks from base model to figures: the steps that notebooks 03 and 04 walk through, each made once.

A `StyleRun` names everything a result depends on; its methods make labels, reward model, policy and samples through
the run's cache, so that asking twice costs nothing and a killed training goes on.
"""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rlhf_lib import checkpoint, collect, manifest
from rlhf_lib.corpora import streams
from rlhf_lib.errors import KitError
from rlhf_lib.labels import simulated
from rlhf_lib.memory import enough_memory
from rlhf_lib.metrics import MetricsWriter, read_metrics
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import resolve_kl_target
from rlhf_lib.reward import RewardModel, fit_reward
from rlhf_lib.runs import MOST_QUERIES, TaskRun
from rlhf_lib.sft import fit_sft, text_pairs
from rlhf_lib.tasks import Queries, QueryStream, Task, build_queries

# what labelers go by, and the instrument that no labeler ever used
JUDGES = {
    "sentiment": (simulated.vader_sum, simulated.sentiment_count),
    "descriptiveness": (simulated.descriptiveness, simulated.imagery_count),
}
AGREEMENT = 0.42  # of two labelers on the best of four; people: 38% to 46%
POOL = 5  # simulated labelers who take turns
NOISE_ROWS = 1024  # comparisons from which the labelers' noise is set, once
EVAL_SEED = 7
# the rooms whose code decides a result (what they import counts by itself): a change of code remakes it
LABEL_ROOMS = ("collect", "corpora.streams", "labels.simulated")
REWARD_ROOMS = (*LABEL_ROOMS, "reward")
POLICY_ROOMS = (*REWARD_ROOMS, "ppo")


@dataclass(frozen=True)
class StyleRun(TaskRun):
    """One style task in one run."""

    def queries(self, count: int, split: str, seed: int) -> Queries:
        """The first ``count`` queries of a split; other seeds give other texts of the same split."""
        texts = islice(streams.style_texts(self.corpus, split, seed), 20 * count)
        return build_queries(texts, self.task, count)

    # -- where it starts --------------------------------------------------------------------------------------

    def _start_path(self) -> str:
        """The model's folder; in profiles that say so (the paper's), of the model fine-tuned on the books first."""
        cfg = self.config.sft
        if not cfg.examples:
            return self._model_path()

        def make(path: Path) -> None:
            lm, tokenizer = load_lm(self._model_path(), device=self.device)
            texts = islice(streams.style_texts(self.corpus, "train", 4000), cfg.examples)
            pairs = text_pairs(texts, Task(self.task_name, self.config.text, tokenizer))
            with enough_memory("fine-tuning on the books", f"{self.task_name}.sft.micro_batch (now {cfg.micro_batch})"):
                Policy(fit_sft(lm, pairs, cfg, autocast=self._autocast)).save(path, tokenizer)

        inputs = super()._inputs(sft=cfg) | {"task": "both style tasks", "seed": "one for all"}
        name = "models/books_supervised"
        return str(manifest.cached(self.run_dir, name, inputs, make, ("sft", "corpora.streams")))

    def _inputs(self, **more) -> dict:
        books = {"books": self.config.sft} if self.config.sft.examples else {}
        return super()._inputs(**more) | books

    def _reference(self) -> Policy:
        """What PPO is held to: the base, its weights in bfloat16 where arithmetic is."""
        if self._frozen == torch.float32:
            return self.base[0]
        return Policy.load(self._start_path(), self._frozen, self.device, self._autocast)[0].requires_grad_(False)

    # -- labels -----------------------------------------------------------------------------------------------

    def base_measures(self) -> dict:
        """Sequence entropy of the base (nats), share penalised, and the labelers' noise: measured once, then kept."""
        count = min(NOISE_ROWS, 16 * self.profile.eval_prompts)

        def make(path: Path) -> None:
            rows, measured = self.base_texts(self.queries(count, "train", 500))
            score = JUDGES[self.task_name][0]
            noise = simulated.calibrate_noise([[score(r) for r in row["responses"]] for row in rows], AGREEMENT)
            manifest.write_json(path, measured | {"noise": noise})

        inputs = replace(self, seed=0)._inputs(rows=count, agreement=AGREEMENT)
        name = f"samples/{self.task_name}_base.json"
        return manifest.read_json(manifest.cached(self.run_dir, name, inputs, make, LABEL_ROOMS))

    def labels(self, count: int | None = None) -> list[dict]:
        """``count`` simulated four-way labels (default: the profile's) on base samples, collected offline."""
        total = self.config.reward.labels

        def make(path: Path) -> None:
            queries = self.queries(round(total * 1.02) + 8, "train", 1000 + self.seed)
            rows = collect.comparisons(self.base[0], queries, self.task, 100 + self.seed)[:total]
            if len(rows) < total:
                raise KitError(f"Only {len(rows)} of {total} comparisons could be made; set reward.labels to fewer.")
            noise, score = self.base_measures()["noise"], simulated.on_response(JUDGES[self.task_name][0])
            pool = [simulated.SimulatedLabeler(score, noise, 1000 * self.seed + k) for k in range(POOL)]
            manifest.write_rows(path, collect.label_offline(rows, pool))

        inputs = self._inputs(total=total, pool=POOL, agreement=AGREEMENT)
        path = manifest.cached(self.run_dir, f"samples/{self._name()}_labels.jsonl", inputs, make, LABEL_ROOMS)
        return manifest.read_rows(path)[:count]

    def _name(self, labels: int | None = None) -> str:
        return f"{self.task_name}_s{self.seed}" + (f"_{labels}" if labels is not None else "")

    # -- the two trainings ------------------------------------------------------------------------------------

    def reward_model(self, labels: int | None = None) -> RewardModel:
        """The reward model fitted to the first ``labels`` labels (default: all of the profile's)."""
        labels = self.config.reward.labels if labels is None else labels
        cfg = replace(self.config.reward, labels=labels, batch=min(self.config.reward.batch, max(4, labels // 16)))

        def make(path: Path) -> None:
            queries = self.queries(max(2 * cfg.normalize_samples, 64), "train", 2000)
            rows = self.labels(labels)
            with enough_memory("the reward model", f"{self.task_name}.reward.micro_batch (now {cfg.micro_batch})"):
                model = fit_reward(self.base[0], rows, queries, self.task, cfg, self.seed)
            model.save(path, self.base[1], self.base[0].lm.config)

        inputs = self._inputs(reward=cfg, pool=POOL, agreement=AGREEMENT)
        name = f"models/{self._name(labels)}_reward"
        folder = manifest.cached(self.run_dir, name, inputs, make, REWARD_ROOMS)
        return RewardModel.load(folder, self._frozen, self.device)

    def ppo_config(self):
        return resolve_kl_target(self.config.ppo, self.base_measures()["entropy"])

    def policy(self, labels: int | None = None, callbacks=()) -> Policy:
        """The policy trained against that reward model; goes on from its checkpoint if it was stopped."""
        folder = self._policy_folder(labels, callbacks)
        return Policy.load(folder / "policy", device=self.device, autocast=self._autocast)[0].requires_grad_(False)

    def metrics(self, labels: int | None = None) -> pd.DataFrame:
        """PPO's metrics, one row an update."""
        return pd.DataFrame(read_metrics(self._policy_folder(labels) / "metrics.jsonl"))

    def _policy_folder(self, labels: int | None = None, callbacks=()) -> Path:
        labels = self.config.reward.labels if labels is None else labels
        cfg = self.ppo_config()

        def make(path: Path) -> None:
            saved = checkpoint.load(path / "checkpoint")
            policy = Policy(load_lm(self._start_path(), device=self.device)[0], self._autocast)
            queries = self.queries(min(cfg.episodes, MOST_QUERIES), "train", 3000 + self.seed)
            stream = QueryStream(queries, self.task, self.seed)
            writer = MetricsWriter(path / "metrics.jsonl", saved["step"] if saved else 0)
            keep = checkpoint.Checkpointer(path / "checkpoint", cfg.save_every)
            score = self.reward_model(labels).score
            with enough_memory("PPO", f"{self.task_name}.ppo.micro_batch (now {cfg.micro_batch})"):
                calls = [writer, *callbacks, keep]
                state = train_ppo(policy, self._reference(), score, stream, cfg, calls, saved, self.seed)
            if state.stopped:
                raise KitError(f"The training of {self._name(labels)} was stopped: {state.stopped}")
            policy.save(path / "policy", self.base[1])
            for file in (path / "checkpoint").iterdir():
                file.unlink()

        inputs = self._inputs(reward=self.config.reward, labels=labels, ppo=cfg, pool=POOL, agreement=AGREEMENT)
        name = f"models/{self._name(labels)}_ppo"
        return manifest.cached(self.run_dir, name, inputs, make, POLICY_ROOMS, resumes=True)

    # -- what came of it --------------------------------------------------------------------------------------

    def samples(self, labels: int | None = None) -> pd.DataFrame:
        """Base and fine-tuned samples on the profile's held-out prompts, as sample rows (see `samples.py`).

        Two rows a model and prompt: ``shown`` True is what a labeler would see (drawn again until it ends in time),
        False is raw, as sampled.
        """

        def make(path: Path) -> None:
            queries = self.queries(self.profile.eval_prompts, "test", EVAL_SEED)
            models = {"zero-shot": self.base[0], "fine-tuned": self.policy(labels)}
            frames = []
            for number, (name, policy) in enumerate(models.items()):
                for shown in (True, False):
                    seed = 10_000 * self.seed + 10 * number + shown
                    rows = pd.DataFrame(collect.sample_texts(policy, queries, self.task, seed, only_passing=shown))
                    frames.append(rows.assign(model=name, shown=shown, query_id=[f"q{i}" for i in range(len(rows))]))
            frame = pd.concat(frames, ignore_index=True)
            frame = frame.assign(task=self.task_name, split="test", seed=self.seed, facts=None, reference=None,
                                 temperature=self.config.text.temperature, starts_with_preamble=None)  # fmt: skip
            frame.to_parquet(path, index=False)

        inputs = self._inputs(policy=self._policy_folder(labels), prompts=self.profile.eval_prompts)
        name = f"samples/{self._name(labels)}.parquet"
        return pd.read_parquet(manifest.cached(self.run_dir, name, inputs, make, LABEL_ROOMS))

    def preference(self, labels: int | None = None) -> dict:
        """Fine-tuned against base: the majority of three simulated labelers, and the independent judge.

        Values are `simulated.Preference` (share, low, high, n). ``ceiling`` is what noise leaves to a policy whose
        every answer scored as high as the base's single best one: it does not depend on the policy that is judged.
        """
        shown = self.samples(labels).query("shown")
        texts = {m: shown[shown.model == m].sort_values("query_id").response_truncated for m in shown.model.unique()}
        noise, (score, independent) = self.base_measures()["noise"], JUDGES[self.task_name]
        mine = {m: np.array([score(t) for t in column]) for m, column in texts.items()}
        other = {m: np.array([independent(t) for t in column]) for m, column in texts.items()}
        tuned, base = mine["fine-tuned"], mine["zero-shot"]
        best = np.full(len(base), base.max())
        return {
            "labelers": simulated.majority_preference(tuned, base, noise, self.profile.labelers, self.seed),
            "independent": simulated.majority_preference(other["fine-tuned"], other["zero-shot"], 0.0, 1),
            "ceiling": simulated.noise_ceiling(best, base, noise, self.profile.labelers),
            "score_base": float(base.mean()), "score_tuned": float(tuned.mean()),
        }  # fmt: skip
