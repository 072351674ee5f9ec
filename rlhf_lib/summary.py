"""The summary tasks from base model to samples: the steps of notebook 06, each made once.

A `SummaryRun` names everything that a result depends on. Four models: *zero-shot* is the base itself, *supervised* the
base fine-tuned on references; *fine-tuned* and *supervised + fine-tuned* are what PPO makes of the two from the picks
of hurried simulated labelers. Notebooks 07 to 10 read `SummaryRun.samples` and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from rlhf_lib import collect, manifest, rounds, sft
from rlhf_lib.analysis import baselines, preference
from rlhf_lib.corpora import streams
from rlhf_lib.errors import KitError
from rlhf_lib.labels import simulated, summaries
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.labels.waiting import ask_people
from rlhf_lib.memory import enough_memory
from rlhf_lib.metrics import read_metrics
from rlhf_lib.policy import Policy, load_lm
from rlhf_lib.profiles import PPOConfig, resolve_kl_target
from rlhf_lib.reward import RewardModel
from rlhf_lib.rounds import Plan
from rlhf_lib.runs import MOST_QUERIES, TaskRun
from rlhf_lib.samples import read_samples, samples_frame, write_samples
from rlhf_lib.tasks import Queries, build_queries

MODELS = ("zero-shot", "fine-tuned", "supervised", "supervised + fine-tuned")
STARTS = {"fine-tuned": "zero-shot", "supervised + fine-tuned": "supervised"}  # what PPO starts from
LEAD3_UNCAPPED = "lead-3 uncapped"
# of two on the best of four: the authors with their labelers of TL;DR, and the authors among themselves
AGREEMENT = {"hurried": 0.46, "careful": 0.60}
POOL = 5  # simulated labelers who take turns
NOISE_ROWS = 1024  # comparisons from which the labelers' noise is set, once
EVAL_SEED = 7
PREAMBLE_SHARE = 300 / 1024  # of held-out prompts at least: rates over inputs with a preamble need so many
LABEL_ROOMS = ("collect", "corpora.streams", "labels.summaries")
POLICY_ROOMS = ("rounds", "corpora.streams", "labels.summaries")


@dataclass(frozen=True)
class SummaryRun(TaskRun):
    """One summary task ("cnndm": articles, "tldr": posts) in one run."""

    # -- texts ------------------------------------------------------------------------------------------------------

    def documents(self, count: int, split: str, seed: int) -> list:
        """The first ``count`` articles or posts of a split; other seeds give others of the same split."""
        return streams.summary_documents(self.task_name, split, seed, count, self.corpus)

    def queries(self, documents: list) -> Queries:
        """Prompts of documents; a last line end keeps the rule that cuts at one from dropping a short text's end."""
        return build_queries([document.text + "\n" for document in documents], self.task)

    def _documents_for(self, count: int, split: str, seed: int) -> list:
        """Documents enough for ``count`` prompts, though some may make none."""
        return self.documents(round(1.05 * count) + 8, split, seed)

    def some_queries(self, count: int, split: str, seed: int) -> Queries:
        """``count`` prompts of a split."""
        queries = self.queries(self._documents_for(count, split, seed))
        if len(queries) < count:
            raise KitError(f"Only {len(queries)} of {count} texts for '{self.task_name}' fit query_length; raise it.")
        return Queries(queries.ids[:count], queries.mask[:count], queries.source[:count])

    def prompts(self, episodes: int) -> Queries:
        """Prompts to train on: as many as episodes, or what a data set has, which are then gone through again."""
        if not self.corpus:
            return self.some_queries(episodes, "train", 3000 + self.seed)
        return self.queries(self.documents(min(episodes, MOST_QUERIES), "train", 3000 + self.seed))

    def sources(self, count: int, split: str, seed: int) -> dict[str, summaries.Source]:
        """What labelers know of each of those prompts besides its text, by the text."""
        documents = self._documents_for(count, split, seed)
        queries, known = self.queries(documents), {}
        for ids, mask, place in zip(queries.ids, queries.mask, queries.source, strict=True):
            known[self.task.decode(ids, mask)] = summaries.Source(documents[place].facts, documents[place].reference)
        return known

    def sources_of_rounds(self, plan: Plan) -> dict[str, summaries.Source]:
        """The same for every text that a plan may ask about."""
        known = {}
        for number, count in enumerate(plan.shares()):
            known |= self.sources(rounds.texts_for(count), "train", self._text_seed(number))
        return known

    # -- labelers ---------------------------------------------------------------------------------------------------

    def base_measures(self) -> dict:
        """Sequence entropy of the base (nats), share penalised, and each kind of labeler's noise: measured once."""
        return self._measured

    @cached_property
    def _measured(self) -> dict:
        count = min(NOISE_ROWS, 16 * self.profile.eval_prompts)

        def make(path: Path) -> None:
            rows, measured = self.base_texts(self.some_queries(count, "train", 500))
            sources = self.sources(count, "train", 500)
            noise = {}
            for kind, agreed in AGREEMENT.items():
                score = summaries.summary_score(kind, sources)
                points = [[score(row["query"], text) for text in row["responses"]] for row in rows]
                noise[kind] = summaries.noise_for(points, agreed)
            manifest.write_json(path, measured | {"noise": noise})

        inputs = replace(self, seed=0)._inputs(rows=count, agreement=AGREEMENT)
        name = f"samples/{self.task_name}_base.json"
        return manifest.read_json(manifest.cached(self.run_dir, name, inputs, make, LABEL_ROOMS))

    def labeler(self, kind: str, sources: dict, seed: int, guess: float = 0.0) -> simulated.SimulatedLabeler:
        """A simulated labeler, "hurried" or "careful", who knows these sources (`sources`, `summaries.sources_of`)."""
        noise = self.base_measures()["noise"][kind]
        return simulated.SimulatedLabeler(summaries.summary_score(kind, sources), noise, seed, guess=guess)

    def _ask_pool(self, plan: Plan, guesser: bool) -> Callable:
        """Hurried simulated labelers take turns; if ``guesser``, one of them guesses from half of the budget on."""

        def ask(rows: list[dict], number: int, before: int) -> list[dict]:
            sources = self.sources(rounds.texts_for(plan.shares()[number]), "train", self._text_seed(number))
            seeds = [100_000 * self.seed + 100 * number + k for k in range(POOL)]
            good = [self.labeler("hurried", sources, seed) for seed in seeds]
            pool = [self.labeler("hurried", sources, seeds[0], guess=float(guesser)), *good[1:]]
            turn = min(max(0, plan.labels // 2 - before), len(rows))
            return collect.label_offline(rows[:turn], good) + collect.label_offline(rows[turn:], pool)

        return ask

    # -- trainings --------------------------------------------------------------------------------------------------

    def supervised(self) -> Policy:
        """The base after one epoch on references (cosine, dropout 0.1)."""
        folder = self._supervised_folder()
        return Policy.load(folder, device=self.device, autocast=self._autocast)[0].requires_grad_(False)

    def _supervised_folder(self) -> Path:
        cfg = self.config.sft

        def make(path: Path) -> None:
            documents = self.documents(cfg.examples, "train", 4000 + self.seed)
            texts = [document.text + "\n" for document in documents]
            pairs = sft.summary_pairs(texts, [document.reference for document in documents], self.task)
            lm = load_lm(self._model_path(), device=self.device)[0]
            with enough_memory("fine-tuning", f"{self.task_name}.sft.micro_batch (now {cfg.micro_batch})"):
                sft.fit_sft(lm, pairs, cfg, self.seed, autocast=self._autocast)
            Policy(lm).save(path, self.base[1])

        name = f"models/{self.task_name}_s{self.seed}_supervised"
        return manifest.cached(self.run_dir, name, self._inputs(sft=cfg), make, ("sft", "corpora.streams"))

    def start(self, model: str) -> Policy:
        """What PPO starts from, and is held to, when it makes ``model``."""
        if model not in STARTS:
            raise KitError(f"'{model}' is not made by PPO; choose one of {', '.join(STARTS)}.")
        return self.base[0] if STARTS[model] == "zero-shot" else self.supervised()

    def plan(self, strategy: str = "online", labels: int | None = None, rounds_: int | None = None,
             delay: int = 0) -> Plan:  # fmt: skip
        """A budget and how it is spent; defaults are the profile's."""
        labels = self.config.reward.labels if labels is None else labels
        usual = {"offline": 1, "batched": self.config.collect.batches, "online": 1 + self.config.collect.refits}
        return Plan(strategy, labels, usual.get(strategy, 1) if rounds_ is None else rounds_, delay)

    def ppo_config(self) -> PPOConfig:
        """PPO's settings with a KL target, where there is one, in nats."""
        if self.config.ppo.kl_target_share is None:
            return self.config.ppo
        return resolve_kl_target(self.config.ppo, self.base_measures()["entropy"])

    def policy(self, model: str = "fine-tuned", plan: Plan | None = None, callbacks=(), guesser: bool = False,
               people: LabelStore | None = None) -> Policy:  # fmt: skip
        """``model`` after PPO under a plan; goes on from its checkpoint if it was stopped.

        people: the label store in whose queues people label instead of simulated labelers; then this raises `Waiting`
        at each batch until it is labeled, and goes on when called again.
        """
        plan = plan or self.plan()
        folder = self._policy_folder(model, plan, callbacks, guesser, people)
        last = rounds.last_training(folder, plan) / "policy"
        return Policy.load(last, device=self.device, autocast=self._autocast)[0].requires_grad_(False)

    def metrics(self, model: str = "fine-tuned", plan: Plan | None = None, guesser: bool = False) -> pd.DataFrame:
        """PPO's metrics, one row an update; of the last training where a plan has several."""
        plan = plan or self.plan()
        folder = self._policy_folder(model, plan, (), guesser)
        return pd.DataFrame(read_metrics(rounds.last_training(folder, plan) / "metrics.jsonl"))

    def labels(self, model: str = "fine-tuned", plan: Plan | None = None, guesser: bool = False) -> list[dict]:
        """All labels that were collected under a plan, in order, with ``round``."""
        plan = plan or self.plan()
        folder = self._policy_folder(model, plan, (), guesser)
        files = [folder / f"labels_{number}.jsonl" for number in range(plan.rounds)]
        return [row | {"round": number} for number, file in enumerate(files) for row in manifest.read_rows(file)]

    def reward_model(self, model: str = "fine-tuned", plan: Plan | None = None, guesser: bool = False) -> RewardModel:
        """The last reward model that was fitted under a plan."""
        plan = plan or self.plan()
        return RewardModel.load(self._policy_folder(model, plan, (), guesser) / f"reward_{plan.rounds - 1}")

    def _text_seed(self, number: int) -> int:
        """Texts that round ``number`` asks about: others in every round and seed."""
        return 1_000_000 + 1000 * self.seed + number

    def _name(self, model: str, plan: Plan) -> str:
        kind = {"fine-tuned": "tuned", "supervised + fine-tuned": "supervised_tuned"}[model]
        late = f"_late{plan.delay}" if plan.delay else ""
        return f"{self.task_name}_s{self.seed}_{kind}_{plan.strategy}_{plan.labels}_r{plan.rounds}{late}"

    def _policy_folder(self, model: str, plan: Plan, callbacks=(), guesser: bool = False,
                       people: LabelStore | None = None) -> Path:  # fmt: skip
        cfg, name = self.ppo_config(), self._name(model, plan) + ("_guesser" if guesser else "")

        def make(path: Path) -> None:
            ask = ask_people(people, name, model) if people is not None else self._ask_pool(plan, guesser)
            path.mkdir(parents=True, exist_ok=True)
            setting = rounds.Setting(
                folder=path, start=self.start(model), tokenizer=self.base[1], task=self.task, ask=ask,
                queries=lambda number, count: self.some_queries(count, "train", self._text_seed(number)),
                scale=self.some_queries(max(2 * self.config.reward.normalize_samples, 64), "train", 2000),
                prompts=self.prompts(cfg.episodes),
                reward=self.config.reward, ppo=cfg, seed=self.seed, callbacks=callbacks,
            )  # fmt: skip
            with enough_memory("PPO", f"{self.task_name}.ppo.micro_batch (now {cfg.micro_batch})"):
                rounds.train(setting, plan)

        inputs = self._inputs(
            start=self._supervised_folder() if STARTS[model] == "supervised" else "zero-shot", plan=plan, ppo=cfg,
            reward=self.config.reward, agreement=AGREEMENT, pool=POOL, guesser=guesser,
            labelers=people.url if people is not None else "simulated",
        )  # fmt: skip
        return manifest.cached(self.run_dir, f"models/{name}", inputs, make, POLICY_ROOMS, resumes=True)

    # -- what came of it --------------------------------------------------------------------------------------------

    def heldout(self) -> tuple[list, Queries]:
        """Held-out documents and their prompts: the profile's number, and 300 of 1,024 at least with a preamble.

        Up to four times the number are gone through for that; real text may have fewer.
        """
        wanted = count = self.profile.eval_prompts
        while True:
            documents = self.documents(count, "test", EVAL_SEED)
            queries = self.queries(documents)
            preambles = sum(bool(documents[i].starts_with_preamble) for i in queries.source)
            enough = len(queries) >= wanted and preambles >= PREAMBLE_SHARE * wanted
            if enough or len(documents) < count or count >= 4 * wanted:
                return documents, queries
            count += max(8, wanted // 16)

    def samples_of(self, name: str, policy: Policy, seed: int) -> pd.DataFrame:
        """Sample rows (`samples.FIELDS`) of one policy on the held-out prompts, as labelers would see them."""
        documents, queries = self.heldout()
        drawn = collect.sample_texts(policy, queries, self.task, seed, only_passing=True)
        rows = [
            {
                "task": self.task_name, "split": "test", "model": name, "query_id": f"{self.task_name}-{place}",
                "query": row["query"], "reference": documents[place].reference, "response": row["response"],
                "response_truncated": row["response_truncated"], "penalised": row["penalised"],
                "temperature": self.config.text.temperature, "seed": self.seed,
                "starts_with_preamble": documents[place].starts_with_preamble, "facts": documents[place].facts,
            }
            for place, row in zip(queries.source, drawn, strict=True)
        ]  # fmt: skip
        return samples_frame(rows)

    def samples(self, plan: Plan | None = None, guesser: bool = False, models=MODELS) -> pd.DataFrame:
        """Sample rows of the models (default: all four), on the same held-out prompts; of one task and seed.

        Responses that do not end in time are drawn again, as for labelers; what never ends is marked penalised.
        """
        return pd.concat([self._samples(model, plan or self.plan(), guesser) for model in models], ignore_index=True)

    def _samples(self, model: str, plan: Plan, guesser: bool) -> pd.DataFrame:
        if model not in MODELS:
            raise KitError(f"There is no model '{model}' of summaries; choose one of {', '.join(MODELS)}.")
        name = f"{self.task_name}_s{self.seed}_{model.replace(' ', '_')}"
        inputs: dict = {"prompts": self.profile.eval_prompts, "share": PREAMBLE_SHARE, "texts": EVAL_SEED}
        if model in STARTS:
            name = self._name(model, plan) + ("_guesser" if guesser else "")
            inputs["policy"] = self._policy_folder(model, plan, (), guesser)
        elif model == "supervised":
            inputs["policy"] = self._supervised_folder()

        def make(path: Path) -> None:
            policies = {"zero-shot": lambda: self.base[0], "supervised": self.supervised}
            policy = policies.get(model, lambda: self.policy(model, plan, guesser=guesser))()
            write_samples(self.samples_of(model, policy, 10_000 * self.seed + MODELS.index(model)), path)

        place = f"samples/{name}.parquet"
        return read_samples(manifest.cached(self.run_dir, place, self._inputs(**inputs), make, LABEL_ROOMS))

    def with_baselines(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Sample rows, and below them the references, lead-3 cut to the task's length, and lead-3 uncapped."""
        whole = baselines.lead3_rows(samples).assign(model=LEAD3_UNCAPPED)
        return pd.concat([baselines.with_baselines(samples, self.task_words()), whole], ignore_index=True)

    def task_words(self) -> int:
        """White-space words that fill the task's response length, at the world's mean number of tokens a word."""
        texts = [document.text for document in self.documents(64, "train", 500)]
        tokens = sum(len(self.task.encode(text)) for text in texts)
        return round(self.config.text.response_length * sum(len(text.split()) for text in texts) / tokens)

    def compare(self, kind: str, samples: pd.DataFrame, models: list[str] | None = None) -> pd.DataFrame:
        """Every two models on every shared prompt, the majority of three simulated labelers of a kind decides.

        Returns `task, query_id, a, b, choice` rows for `analysis.preference.preference_matrix`.
        """
        models = list(dict.fromkeys(samples["model"])) if models is None else models
        judge = self.labeler(kind, summaries.sources_of(samples), 50_000 + self.seed)
        return preference.compare_models(samples, models, judge.pick, self.profile.labelers, self.seed)
