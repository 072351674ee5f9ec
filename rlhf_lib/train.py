"""The three trainings at the command line, on one device or many: `accelerate launch -m rlhf_lib.train ppo --task …`.

supervised, reward or ppo, with a profile's values; what was trained goes to `--out` as Hugging Face folders, each with
a card. Killed and started again with the same words, a training goes on from its checkpoint. On several devices every
rank trains a copy on its share (DDP; see `ranks`), or, where accelerate is configured for FSDP, a piece of the model
(`sharding`).
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import parse_flag_from_env
from transformers import AutoTokenizer

from rlhf_lib import cards, collect, sharding
from rlhf_lib.andon import AndonCord
from rlhf_lib.corpora import streams
from rlhf_lib.errors import KitError
from rlhf_lib.labels.importing import read_labels
from rlhf_lib.labels.original import read_original, speaks_gpt2
from rlhf_lib.labels.rowfiles import file_rows
from rlhf_lib.memory import checkpoint_activations, enough_memory
from rlhf_lib.metrics import MetricsWriter
from rlhf_lib.network import offline_if_unreachable
from rlhf_lib.parameters import named_values
from rlhf_lib.picks import Comparisons, encode_labels, split_by_query
from rlhf_lib.policy import Policy, load_lm, no_loading_report
from rlhf_lib.ppo import train_ppo
from rlhf_lib.profiles import TASKS, get_profile, resolve_kl_target
from rlhf_lib.ranks import FirstDecides, RankCheckpointer, Ranks, load_common
from rlhf_lib.reward import RewardModel, accuracy, fit_reward
from rlhf_lib.runs import MOST_QUERIES
from rlhf_lib.sft import fit_sft, summary_pairs, text_pairs
from rlhf_lib.tasks import Queries, QueryStream, Task, build_queries

LINE_END = "\n"  # after a document, or the rule that cuts at one would drop a short text's last line (as in `summary`)
STYLE = ("sentiment", "descriptiveness")
CARD_METRICS = ("objective/kl", "objective/score", "objective/penalised")
FSDP_RECOMPUTES = "FSDP_ACTIVATION_CHECKPOINTING"  # where accelerate puts that field of its configuration
ENTROPY_QUERIES = 256  # on which the base's sequence entropy is measured, where a KL target is a share of it


def parse(argv: list[str]) -> argparse.Namespace:
    """The words after `train`."""
    parser = argparse.ArgumentParser(prog="rlhf_lib train", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("supervised", "reward", "ppo"))
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--out", required=True, type=Path, help="folder of the result; all machines must see it")
    parser.add_argument("--profile", default="tiny", help="smoke, tiny, gpt2 or gpt2-large (default: tiny)")
    parser.add_argument("--model", help="folder or hub name to start from; in ppo the reference too")
    parser.add_argument("--corpus", default="", help="a file, a folder in the hub's format, or 'hub'")
    parser.add_argument("--labels", help="reward: the original's JSON, JSONL rows, or hub:sentiment/offline_5k.json")
    parser.add_argument("--reward", type=Path, help="ppo: the folder of the reward model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-p", metavar="FIELD=VALUE", action="append", default=[], dest="fields",
                        help="a field of the profile, such as ppo__episodes=6400")  # fmt: skip
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again, not keep them")
    parser.add_argument("--tracker", choices=("tensorboard", "wandb"), help="log there too, through accelerate")
    parser.add_argument("--cord", metavar="RUN", help="look at the andon cord under this name after each update")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Job:
    """One training: its words, its place among the ranks, and what follows from both."""

    options: argparse.Namespace
    ranks: Ranks
    shards: bool = False  # whether models are split over the ranks

    @cached_property
    def profile(self):
        given = {"model": self.options.model} if self.options.model else {}
        return get_profile(self.options.profile, **given, **named_values(self.options.fields))

    @cached_property
    def config(self):
        return self.profile[self.options.task]

    @property
    def autocast(self) -> torch.dtype | None:
        """bfloat16 arithmetic; master weights and optimizer stay float32."""
        return torch.bfloat16 if self.profile.dtype == "bfloat16" else None

    @property
    def frozen(self) -> torch.dtype:
        """The type of weights that nothing trains: reference and reward model in PPO."""
        return self.autocast or torch.float32

    def load(self, dtype: torch.dtype = torch.float32, trained: bool = False) -> Policy:
        """The profile's model on this rank's device; one to be trained computes activations again if asked to."""
        policy = Policy(load_lm(self.profile.model, dtype)[0], self.autocast)
        if trained and (self.options.checkpointing or (self.shards and parse_flag_from_env(FSDP_RECOMPUTES))):
            checkpoint_activations(policy.lm)
        if self.shards:  # before it moves, so that no device ever holds a whole model
            sharding.shard_policy(policy)
        return policy.to(self.ranks.device)

    def load_reward(self) -> RewardModel:
        """The reward model that PPO climbs, frozen, on this rank's device."""
        with no_loading_report():
            model = RewardModel.load(self.options.reward, self.frozen)
        check_vocabulary(self.options.reward, self.tokenizer, self.profile.model)
        if self.shards:
            sharding.shard(model.body)
        return model.to(self.ranks.device)

    def checkpoint(self) -> dict | None:
        """Where an earlier start of this training got to."""
        return load_common(self.options.out / "checkpoint", self.ranks, self.shards)

    @cached_property
    def tokenizer(self):
        return load_lm(self.profile.model)[1]

    @cached_property
    def task(self) -> Task:
        return Task(self.options.task, self.config.text, self.tokenizer)

    def texts(self, count: int):
        """Texts to make `count` queries of, or all that there are."""
        if self.options.task in STYLE:
            return islice(streams.style_texts(self.options.corpus, "train", self.options.seed), 20 * count)
        corpus, seed = self.options.corpus, self.options.seed
        found = streams.summary_documents(self.options.task, "train", seed, count, corpus)
        return [d.text + LINE_END for d in found]

    def queries(self, count: int) -> Queries:
        """Up to `count` queries to train on, at most MOST_QUERIES."""
        count = min(count, MOST_QUERIES)
        return build_queries(self.texts(count), self.task, count if self.options.task in STYLE else None)

    def callbacks(self, saved: dict | None, every: int) -> list:
        """Metrics, tracker, checkpoints, and the cord, in the order in which they are safe to be interrupted."""
        out, found = self.options.out, []
        if self.ranks.is_first:
            found.append(MetricsWriter(out / "metrics.jsonl", saved["step"] if saved else 0))
        if self.options.tracker:
            found.append(lambda state: self.ranks.accelerator.log(state.metrics, step=state.step))
        found.append(RankCheckpointer(out / "checkpoint", every, self.ranks))
        if self.options.cord:
            cord = AndonCord(self.options.cord, folder=out / "checkpoint") if self.ranks.is_first else None
            found.append(FirstDecides(cord, self.ranks))
        return found

    def write(self, model: Policy | RewardModel, save, kind: str, **facts) -> None:
        """Let the first rank save what was trained and write its card; the others wait for it."""
        sharding.put_together(model)
        if self.ranks.is_first:
            folder = save(self.options.out / ("reward" if kind == "reward" else "policy"))
            cards.write_model_card(folder, kind, self.options.task, self.profile, self.options.corpus, facts)
            print(f"{kind}: {folder}", flush=True)
        self.ranks.accelerator.wait_for_everyone()


# ---- the three trainings --------------------------------------------------------------------------------------


def supervised(job: Job) -> None:
    """Fine-tune on references (summaries) or on the books (style tasks: the paper's reference model)."""
    cfg, task = job.config.sft, job.options.task
    if not cfg.examples:
        raise KitError(f"{job.profile.name} does not fine-tune {task} first; give -p {task}__sft__examples=N to do so.")
    if task in STYLE:
        texts = streams.style_texts(job.options.corpus, "train", job.options.seed)
        pairs = text_pairs(islice(texts, cfg.examples), job.task)
    else:
        found = streams.summary_documents(task, "train", job.options.seed, cfg.examples, job.options.corpus)
        pairs = summary_pairs([d.text + LINE_END for d in found], [d.reference for d in found], job.task)
    saved = job.checkpoint()
    cfg = replace(cfg, batch=job.ranks.split(cfg.batch, "sft.batch"))
    with enough_memory("supervised fine-tuning", f"{task}.sft.micro_batch (now {cfg.micro_batch})"):
        policy = job.load(trained=True)
        policy._check_fits(max((len(prompt) + len(target) for prompt, target in pairs), default=0))
        fit_sft(
            policy.lm, job.ranks.share(pairs), cfg, job.ranks.seed(job.options.seed),
            job.callbacks(saved, every=200), saved, job.autocast, job.ranks.sync,
        )  # fmt: skip
    job.write(policy, lambda folder: policy.save(folder, job.tokenizer), "supervised", examples=len(pairs))


def reward(job: Job) -> None:
    """Fit a reward model to four-way labels; each rank fits its share of the comparisons."""
    if not job.options.labels:
        raise KitError("The reward model needs labels; give --labels a file (data/README.md says which there are).")
    cfg, task = job.config.reward, job.task
    rows, unread = label_rows(job.options.labels, job.tokenizer)
    data, dropped = encode_labels(rows, task)
    dropped = {why: count + unread.get(why, 0) for why, count in dropped.items()}
    train, held = split_by_query(data.rows(slice(cfg.labels)), cfg.heldout, job.options.seed)
    each = replace(cfg, batch=job.ranks.split(cfg.batch, "reward.batch"), heldout=0.0)
    saved = job.checkpoint()
    with enough_memory("the reward model", f"{task.name}.reward.micro_batch (now {cfg.micro_batch})"):
        model = fit_reward(
            job.load(trained=True).requires_grad_(False), job.ranks.share(as_rows(train)),
            job.queries(2 * cfg.normalize_samples), task, each, job.options.seed,
            job.callbacks(saved, every=200), saved, job.ranks.sync,
        )  # fmt: skip
        model.report |= {"heldout_accuracy": accuracy(model, held, cfg.micro_batch), "heldout": len(held)}
    model.report |= {"train": len(train), "dropped": dropped, "processes": job.ranks.world}
    config = load_lm(job.profile.model)[0].config
    job.write(model, lambda folder: model.save(folder, job.tokenizer, config), "reward", **model.report)


def label_rows(source: str, tokenizer) -> tuple[list[dict], dict[str, int]]:
    """Rows `query, responses, best` from any label file, and what its reader left out, by reason.

    Token ids become text for a tokenizer that is not GPT-2's.
    """
    first = None if source.startswith("hub:") else next(iter(file_rows(Path(source))), (0, None))[1]
    if source.startswith("hub:") or (isinstance(first, dict) and isinstance(first.get("query"), list)):
        decode = None
        if not speaks_gpt2(tokenizer):
            decode = load_gpt2_tokenizer().decode
        return read_original(source, decode)
    good, refused = read_labels(source)
    if refused or not good:
        raise KitError(refused[0] if refused else f"{source} holds no labels; collect some first (notebook 02).")
    picks = [(g.item["payload"], g.answer) for g in good if g.item["kind"] == "best_of_4"]
    return [{"query": p["query"], "responses": p["samples"], "best": answer["best"]} for p, answer in picks], {}


def load_gpt2_tokenizer():
    """GPT-2's own tokenizer, to read the original's labels with; KitError where it cannot be had."""
    from transformers import AutoTokenizer

    try:
        with offline_if_unreachable():
            return AutoTokenizer.from_pretrained("gpt2")
    except Exception as error:  # the hub's client raises a dozen unrelated types
        raise KitError(
            "These labels are token ids of GPT-2 and the model has another vocabulary, so GPT-2's tokenizer is needed; "
            "download `gpt2` from the hub once with a network, or use a GPT-2 model."
        ) from error


def as_rows(data: Comparisons) -> list[dict]:
    """Comparisons as rows of token ids, as `fit_reward` takes them."""
    queries = [q[m].tolist() for q, m in zip(data.query_ids, data.query_mask, strict=True)]
    fours = [
        [r[m].tolist() for r, m in zip(ids, mask, strict=True)]
        for ids, mask in zip(data.response_ids, data.response_mask, strict=True)
    ]
    best = data.best.tolist()
    return [{"query": q, "responses": four, "best": b} for q, four, b in zip(queries, fours, best, strict=True)]


def ppo(job: Job) -> None:
    """Fine-tune the policy against a reward model; the model that it starts from is the reference."""
    if job.options.reward is None:
        raise KitError("PPO needs a reward model; give --reward its folder (`train reward` makes one).")
    cfg, text = job.config.ppo, job.config.text
    setting = f"{job.task.name}.ppo.micro_batch (now {cfg.micro_batch})"
    with enough_memory("PPO's three models", setting):
        policy, reference = job.load(trained=True), job.load(job.frozen).requires_grad_(False)
        model = job.load_reward()
    queries = job.queries(cfg.episodes)
    if cfg.kl_target_share is not None:
        part = Queries(queries.ids[:ENTROPY_QUERIES], queries.mask[:ENTROPY_QUERIES], [])
        rows = collect.sample_texts(reference, part, job.task, job.options.seed)
        entropy = sum(row["entropy"] for row in rows) / len(rows)  # nats a sequence
        cfg = resolve_kl_target(cfg, job.ranks.tell(entropy))
    each = replace(cfg, batch=job.ranks.split(cfg.batch, "ppo.batch"))
    stream = QueryStream(queries, job.task, job.options.seed, job.ranks.rank, job.ranks.world)
    saved = job.checkpoint()
    with enough_memory("PPO", setting):
        state = train_ppo(
            policy, reference, model.score, stream, each, job.callbacks(saved, cfg.save_every), saved,
            job.ranks.seed(job.options.seed), job.ranks.sync, job.ranks.world,
        )  # fmt: skip
    if state.stopped:
        raise KitError(f"The training was stopped: {state.stopped}")
    facts = {"episodes": state.step * cfg.batch, "temperature": text.temperature, "processes": job.ranks.world}
    job.write(policy, lambda folder: policy.save(folder, job.tokenizer), "ppo", **facts, **last_metrics(state.metrics))


def check_vocabulary(folder: Path, tokenizer, model: str) -> None:
    """KitError for a reward model with another vocabulary than the policy's: token ids would be other words to it."""
    try:
        theirs = AutoTokenizer.from_pretrained(folder).get_vocab()
    except Exception:  # transformers raises many types for a tokenizer that is not there
        theirs = None
    if theirs != tokenizer.get_vocab():
        raise KitError(
            f"The reward model '{folder}' has no tokenizer, or another vocabulary than '{model}'; give one that was "
            "fitted to that model."
        )


def last_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """The numbers of the last update that a card names."""
    return {name: metrics[name] for name in CARD_METRICS if name in metrics}


def check_kind(kind: DistributedType) -> None:
    """KitError for ways of distributing a training that the kit has not."""
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise KitError(
            f"accelerate is configured for {kind.value}, and the kit's trainings know DDP and FSDP; run `accelerate "
            "config` again for one of them."
        )


def fsdp_wanted() -> bool:
    """Whether `accelerate launch` was configured for FSDP; KitError for a part of it that is not done here.

    Of its fields the kit follows activation checkpointing. The others say how torch's own FSDP groups, casts and
    prefetches weights, and change no result.
    """
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return False
    if parse_flag_from_env("FSDP_OFFLOAD_PARAMS"):
        raise KitError("FSDP that keeps weights in the CPU's memory is not done here; set fsdp_offload_params: false.")
    # it lets transformers load on the first rank alone and count on a broadcast, which `sharding` does not do
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return True


def main(argv: list[str]) -> int:
    """One training. Raises KitError for input that cannot be used."""
    options = parse(argv)
    accelerator = Accelerator(log_with=options.tracker, project_dir=str(options.out))
    check_kind(accelerator.distributed_type)
    shards = fsdp_wanted() and accelerator.num_processes > 1
    if options.tracker and not accelerator.log_with:  # accelerate leaves out, without a word, what is not installed
        raise KitError(f"The tracker {options.tracker} is not installed here; pip install {options.tracker}.")
    if options.tracker:
        accelerator.init_trackers(f"rlhf-{options.what}")
    {"supervised": supervised, "reward": reward, "ppo": ppo}[options.what](Job(options, Ranks(accelerator), shards))
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KitError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
