"""The recorded sweep of the style tasks: every label count and seed, one row each, and what is kept of it.

Notebooks draw a run's own points beside these. `run_sweep` resumes: each training is made once by the run's cache.
"""

from collections import Counter
from pathlib import Path

import pandas as pd

from rlhf_lib import manifest
from rlhf_lib.corpora import tinyworld_check
from rlhf_lib.corpora.tinyworld_grammar import sentences_of
from rlhf_lib.errors import KitError
from rlhf_lib.style import StyleRun

TASKS = ("sentiment", "descriptiveness")
LABEL_COUNTS = (100, 200, 500, 1000, 2500, 5000)
LAST_UPDATES = 10  # over which a run's final KL is averaged
SHOWN_SAMPLES = 64  # prompts a task and model that are kept for reading
RECORDED = manifest.ROOT / "data" / "recorded"

# share preferred to zero-shot by number of labels, read off the paper's figure (original-system.md section 5.2)
PUBLISHED = {
    "sentiment": {0: 0.5, 200: 0.519, 500: 0.749, 1000: 0.844, 2500: 0.862, 5000: 0.879, 10000: 0.868, 20000: 0.871},
    "descriptiveness": {
        0: 0.5, 200: 0.782, 500: 0.762, 1000: 0.823, 2500: 0.727, 5000: 0.863, 10000: 0.863, 20000: 0.846,
    },
}  # fmt: skip


def variety(texts: list[str]) -> dict[str, float]:
    """Share of sentences that are distinct, and the share that the most frequent whole response takes."""
    sentences = [s for text in texts for s in sentences_of(text) if s.endswith(".")]
    if not sentences:
        return {"distinct": float("nan"), "top_response": float("nan")}
    return {
        "distinct": len(set(sentences)) / len(sentences),
        "top_response": Counter(texts).most_common(1)[0][1] / len(texts),
    }


def result_row(run: StyleRun, labels: int) -> dict:
    """Everything measured about one policy, as one flat row (shares 0 to 1, KL and entropy in nats)."""
    won, metrics, base = run.preference(labels), run.metrics(labels), run.base_measures()
    raw = run.samples(labels).query("~shown")
    row = {"task": run.task_name, "labels": labels, "seed": run.seed}
    row |= {"preference": won["labelers"].share, "low": won["labelers"].low, "high": won["labelers"].high}
    row |= {"independent": won["independent"].share, "ceiling": won["ceiling"], "prompts": won["labelers"].n}
    row |= {"score_base": won["score_base"], "score_tuned": won["score_tuned"]}
    row |= {"accuracy": run.reward_model(labels).report["heldout_accuracy"], "noise": base["noise"]}
    row |= {"kl": metrics["objective/kl"].tail(LAST_UPDATES).mean(), "kl_target": run.ppo_config().kl_target}
    row |= {"entropy_base": base["entropy"], "entropy": metrics["objective/entropy"].tail(LAST_UPDATES).mean()}
    row |= {"sample_share": metrics["time/sample_share"].mean(), "seconds": metrics["time/update"].sum()}
    for model, name in (("zero-shot", "base"), ("fine-tuned", "tuned")):
        mine = raw[raw.model == model]
        texts = list(mine.response_truncated)
        row |= {f"{key}_{name}": value for key, value in variety(texts).items()}
        row |= {f"penalised_{name}": float(mine.penalised.mean())}
        row |= {f"grammatical_{name}": tinyworld_check.grammatical_share(texts)}
    return row


def run_sweep(run_dir: Path, profile: str, seeds: list[int], counts=LABEL_COUNTS, tasks=TASKS, **where) -> pd.DataFrame:
    """Train and measure every combination; the largest label count first, so that the main result comes first."""
    rows = []
    for count in sorted(counts, reverse=True):
        for seed in seeds:
            for task in tasks:
                rows.append(result_row(StyleRun(run_dir, task, profile, seed=seed, **where), count))
                pd.DataFrame(rows).to_json(run_dir / "metrics" / "style_sweep.json", orient="records", indent=1)
                done = rows[-1]
                print(f"{task}, {count} labels, seed {seed}: preferred {done['preference']:.1%}, KL {done['kl']:.1f}",
                      flush=True)  # fmt: skip
    return pd.DataFrame(rows)


def record(run_dir: Path, profile: str, rows: pd.DataFrame, folder: Path = RECORDED, **where) -> None:
    """Keep a sweep: its rows, the curves of the largest label count, and some samples to read.

    ``where`` is what `run_sweep` was given (model, corpus, overrides): the same runs, not trained again. A task that is
    not among the rows stays as it was recorded, if the same base and profile made it.
    """
    most, curves, samples = rows["labels"].max(), [], []
    for row in rows[rows["labels"] == most].itertuples():
        run = StyleRun(run_dir, row.task, profile, seed=row.seed, **where)
        curves.append(run.metrics(most).assign(task=row.task, seed=row.seed, labels=most))
        shown = run.samples(most)
        keep = shown["query_id"].isin([f"q{i}" for i in range(SHOWN_SAMPLES)])
        samples.append(shown[keep].assign(labels=most))
    kept, parts = parts_of_others(folder, profile, set(rows["task"]), base_of(run))
    frames = {"style_sweep": [rows], "style_curves": curves, "style_samples": samples}
    whole = {name: pd.concat([*(kept[name] if kept else []), *made]) for name, made in frames.items()}
    folder.mkdir(parents=True, exist_ok=True)
    whole["style_sweep"].to_json(folder / "style_sweep.json", orient="records", indent=1)
    for name in ("style_curves", "style_samples"):
        whole[name].to_parquet(folder / f"{name}.parquet", index=False)
    made_by = {"versions": manifest.versions(), "git": manifest.git_state(), "base": base_of(run),
               "source": manifest.source_hash(("style_sweep",))}  # fmt: skip
    parts |= {task: made_by | {"runs": int((rows["task"] == task).sum())} for task in rows["task"].unique()}
    whole_manifest = {"profile": profile, "labelers": "simulated", "parts": dict(sorted(parts.items()))}
    manifest.write_json(folder / "style_manifest.json", whole_manifest)


def base_of(run: StyleRun) -> str:
    """A key of the base model's weights, configuration and tokenizer."""
    return manifest.inputs_key("base", {"model": run._inputs()["model"]})[0]


def parts_of_others(folder: Path, profile: str, tasks: set[str], base: str) -> tuple[dict, dict]:
    """What a recording holds of other tasks, made with the same base and profile: frames by name, and who made them.

    So that a task can be recorded again without the other. What another base made is not kept.
    """
    if not (folder / "style_manifest.json").is_file():
        return {}, {}
    old = manifest.read_json(folder / "style_manifest.json")
    parts = {
        task: part for task, part in old.get("parts", {}).items()
        if task not in tasks and old["profile"] == profile and part["base"] == base
    }  # fmt: skip
    if not parts:
        return {}, {}
    frames = {"style_sweep": pd.read_json(folder / "style_sweep.json")}
    frames |= {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("style_curves", "style_samples")}
    return {name: [frame[frame["task"].isin(parts)]] for name, frame in frames.items()}, parts


def recorded(name: str) -> pd.DataFrame:
    """A recorded frame: ``style_sweep``, ``style_curves`` or ``style_samples``; KitError if it is not there."""
    for path, read in ((RECORDED / f"{name}.json", pd.read_json), (RECORDED / f"{name}.parquet", pd.read_parquet)):
        if path.is_file():
            return read(path)
    raise KitError(
        f"No recorded '{name}' in {RECORDED}: make it with `make reproduce SWEEPS=1 SEEDS=3` and `make figures`."
    )


def published_frame(tasks=TASKS) -> pd.DataFrame:
    """The paper's points in the columns that `plots.preference_by_labels` draws."""
    return pd.DataFrame(
        [
            {"task": task, "labels": labels, "preference": share, "run": "published"}
            for task in tasks
            for labels, share in PUBLISHED[task].items()
        ]
    )
