"""The recorded sweep of the summary tasks: four models over seeds, ways of collecting over budgets, what spoils them.

Notebooks 06 to 10 draw a run's own points beside these. All of it resumes: each training is made once by the run's
cache. Recorded are the held-out samples of the main runs (every analysis of notebooks 07 to 10 reads only those), one
row of measures a collection, and PPO's curves.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_lib import manifest
from rlhf_lib.analysis import accuracy, novelty, preference, rouge
from rlhf_lib.analysis.baselines import REFERENCE, reference_rows
from rlhf_lib.corpora import tinyworld_check
from rlhf_lib.errors import KitError
from rlhf_lib.labels import simulated, summaries, watching
from rlhf_lib.rounds import STRATEGIES, Plan
from rlhf_lib.summary import POOL, SummaryRun

TASKS = ("cnndm", "tldr")
COLLECTED = "tldr"  # the task on which ways of collecting are compared
BUDGET_SHARES = (0.1, 1 / 3, 1.0)  # of the profile's labels
FEWEST = 100  # labels, online alone: a tenth of tiny's budget is enough for posts, so how few are is seen below it
PAPER_ROUNDS = 20  # batches online in the paper: one before training and 19 re-fits [PAPER 2.3]
DELAYS = (0, 1, 5)  # batches by which labels are late, online
LATE_ROUNDS = 8  # batches in the runs whose labels are late: more than the longest delay
COLLECT_SEEDS = 5  # of the ways of collecting at the largest budget
OVERLAP = 0.2  # share of comparisons that two labelers see, where a guesser is looked for
LAST_UPDATES = 10  # over which a run's final KL is averaged
RECORDED = manifest.ROOT / "data" / "recorded"


def result_row(run: SummaryRun, plan: Plan, guesser: bool = False, model: str = "fine-tuned") -> dict:
    """Everything measured about one collection and the policy that it ended in, as one flat row (shares 0 to 1)."""
    samples = pd.concat([run.samples(plan, guesser, (model,)), run.samples(plan, models=("zero-shot",))])
    with_references = pd.concat([samples, reference_rows(samples)], ignore_index=True)
    usual = plan == run.plan(plan.strategy, plan.labels) and not guesser
    row = {"task": run.task_name, "seed": run.seed, "model": model, "guesser": guesser, "usual": usual} | vars(plan)
    for kind in summaries.POINTS:
        for other in ("zero-shot", REFERENCE):
            chosen = run.compare(kind, with_references, [model, other])
            row |= _preferred(f"{kind}_over_{other}", chosen) | {"prompts": len(chosen)}
    mine = samples[samples["model"] == model]
    row["rouge"] = 100 * float(rouge.score_samples(mine, 1)[["rouge1", "rouge2", "rougeL"]].to_numpy().mean())
    novel = novelty.novelty_table(novelty.count_novel(mine), draws=100).set_index("unit")["novelty"]
    row |= {"novel_sentences": novel["sentence"], "penalised": float(mine["penalised"].astype(float).mean())}
    checked = accuracy.checked_accuracy(mine, tinyworld_check.check)["accurate"]  # empty where there are no facts
    row["accurate"] = float(checked.iloc[0]) if len(checked) else float("nan")
    metrics, report = run.metrics(model, plan, guesser), run.reward_model(model, plan, guesser).report
    row |= {"kl": metrics["objective/kl"].tail(LAST_UPDATES).mean(), "entropy": metrics["objective/entropy"].iloc[-1]}
    row |= {"reward_accuracy": report["heldout_accuracy"], "seconds": metrics["time/update"].sum()}
    return row | (watch_guesser(run, plan, model) if guesser else dict.fromkeys(WATCHED, float("nan")))


def _preferred(name: str, chosen: pd.DataFrame) -> dict:
    """The first model's share of `SummaryRun.compare`'s choices, and its 95% interval, under ``name``."""
    won = preference.preference_matrix(chosen).iloc[0]
    return {name: won["share"], f"{name}_low": won["low"], f"{name}_high": won["high"]}


def over_offline(run: SummaryRun, plan: Plan) -> dict:
    """How often hurried labelers prefer a plan's policy to offline collection's of the same budget, their summaries of
    the same contexts side by side; nothing for offline collection itself."""
    offline = run.plan("offline", plan.labels)
    if plan == offline:
        return {}
    both = [run.samples(each, models=("fine-tuned",)).assign(model=each.strategy) for each in (plan, offline)]
    chosen = run.compare("hurried", pd.concat(both, ignore_index=True), [plan.strategy, offline.strategy])
    return _preferred("hurried_over_offline", chosen)


WATCHED = ("noticed", "others_agree_first", "others_agree_last", "guesser_agrees_last")


def watch_guesser(run: SummaryRun, plan: Plan, model: str = "fine-tuned") -> dict[str, float]:
    """What the panel sees of the labeler who guesses from half of the budget on, as the columns `WATCHED`.

    noticed: labels collected when it first names the guesser; NaN if never. The rest: how often labelers agree with one
    another in the first and in the last batch, the others' mean and the guesser's own. The panel looks at each batch
    when it is in; `OVERLAP` of the comparisons were shown to a second labeler.
    """
    rows = run.labels(model, plan, guesser=True)
    sizes = pd.Series([row["round"] for row in rows]).value_counts().sort_index().tolist()
    chosen = np.random.default_rng(run.seed).random(len(rows)) < OVERLAP
    known = run.sources_of_rounds(plan)
    seconds = []
    for place in np.flatnonzero(chosen):
        row = rows[place]
        second = (int(row["labeler"]) + 1 + place // POOL % (POOL - 1)) % POOL
        guesses = float(second == 0 and place >= plan.labels // 2)
        labeler = run.labeler("hurried", known, 9_000_000 + int(place), guess=guesses)
        seconds.append({"place": int(place), "labeler": second, "best": labeler.pick(row["query"], row["responses"])})
    watched = watching.watch(watching.answers_frame(rows, seconds), sizes)
    first, last = (pd.Series(watched["agrees"].iloc[place]) for place in (0, -1))
    agree = (first.drop("0", errors="ignore").mean(), last.drop("0", errors="ignore").mean(), last.get("0", np.nan))
    return dict(zip(WATCHED, (watching.noticed(watched, "0"), *map(float, agree)), strict=True))


def plans(run: SummaryRun) -> list[tuple[Plan, bool]]:
    """Every collection that is compared, with whether one labeler starts to guess; the main comparison comes first."""
    budgets = [round(share * run.config.reward.labels) for share in BUDGET_SHARES]
    most = budgets[-1]
    main = [(run.plan(strategy, most), False) for strategy in STRATEGIES]
    fewer = [(run.plan(strategy, n), False) for n in budgets[-2::-1] for strategy in STRATEGIES]
    fewer += [(run.plan("online", FEWEST), False)] if budgets[0] > FEWEST else []
    updates = run.config.ppo.episodes // run.config.ppo.batch  # no batch without one
    often = [(run.plan("online", most, min(PAPER_ROUNDS, updates)), False)]
    late = [(run.plan("online", most, min(LATE_ROUNDS, updates), delay), False) for delay in DELAYS]
    return list(dict.fromkeys(main + often + fewer + late + [(plan, True) for plan, _ in main]))


def run_collections(run_dir: Path, profile: str, seeds: list[int], task: str = COLLECTED, **where) -> pd.DataFrame:
    """Measure every plan for every seed (the main ones for `COLLECT_SEEDS` at least, if there is more than one)."""
    rows, planned = [], plans(SummaryRun(run_dir, task, profile, **where))
    for number, (plan, guesser) in enumerate(planned):
        beside = not guesser and plan.labels in {other.labels for other, _ in planned if other.strategy == "offline"}
        several = len(seeds) > 1 and number < len(STRATEGIES)
        for seed in range(1, COLLECT_SEEDS + 1) if several and len(seeds) < COLLECT_SEEDS else seeds:
            run = SummaryRun(run_dir, task, profile, seed=seed, **where)
            rows.append(result_row(run, plan, guesser) | (over_offline(run, plan) if beside else {}))
            manifest.write_json(run_dir / "metrics" / "summary_sweep.json", {"rows": rows})
            done = rows[-1]
            print(f"{done['strategy']}, {done['labels']} labels, {done['delay']} late, guesser {done['guesser']}, seed "
                  f"{seed}: over references {done['hurried_over_reference']:.1%}, ROUGE {done['rouge']:.1f}",
                  flush=True)  # fmt: skip
    return pd.DataFrame(rows)


def run_models(
    run_dir: Path, profile: str, seeds: list[int], tasks=TASKS, **where
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Held-out samples of the four models, and PPO's curves, for every task and seed."""
    samples, curves = [], []
    for seed in seeds:
        for task in tasks:
            run = SummaryRun(run_dir, task, profile, seed=seed, **where)
            samples.append(run.samples())
            for model in ("fine-tuned", "supervised + fine-tuned"):
                curves.append(run.metrics(model).assign(task=task, seed=seed, model=model))
            print(f"{task}, seed {seed}: the four models are made.", flush=True)
    return pd.concat(samples, ignore_index=True), pd.concat(curves, ignore_index=True)


# -- what is kept -------------------------------------------------------------------------------------------------


def record(profile: str, samples: pd.DataFrame, curves: pd.DataFrame, collections: pd.DataFrame,
           folder: Path = RECORDED) -> None:  # fmt: skip
    """Keep a sweep in ``folder``: samples, curves and measures as Parquet, and how they were made."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = {"summary_samples": samples, "summary_curves": curves, "summary_collections": collections}
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False, compression="zstd")
    manifest.write_json(folder / "summary_manifest.json", {
        "profile": profile, "versions": manifest.versions(), "git": manifest.git_state(), "labelers": "simulated",
        "rows": {name: len(frame) for name, frame in frames.items()},
        "source": manifest.source_hash(("summary_sweep",)),
    })  # fmt: skip


def recorded(name: str, folder: Path = RECORDED) -> pd.DataFrame:
    """A recorded frame: ``summary_samples``, ``summary_curves`` or ``summary_collections``; KitError if missing."""
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise KitError(
            f"No recorded '{name}' in {folder}: make it with `make reproduce SWEEPS=1 SEEDS=3` and `make figures`."
        )
    return pd.read_parquet(path)


def gap_recovered(rows: pd.DataFrame, value: str = "hurried_over_reference") -> simulated.Preference | None:
    """Share of the gap between offline and online that batched collection recovers, at the largest budget; None without
    all three. Mean over the seeds that have them, with a 95% interval of a bootstrap over seeds."""
    main = rows[(rows["labels"] == rows["labels"].max()) & rows["usual"]]
    table = main.pivot_table(index="seed", columns="strategy", values=value).dropna()
    if not set(STRATEGIES) <= set(table.columns) or table.empty:
        return None
    gaps = table[["batched", "online"]].sub(table["offline"], axis=0).to_numpy()  # [seeds, 2]
    random = np.random.default_rng(0)
    drawn = gaps[random.integers(len(gaps), size=(2000, len(gaps)))].sum(1)  # [2000, 2]
    shares = drawn[:, 0] / np.where(drawn[:, 1] == 0, np.nan, drawn[:, 1])
    low, high = np.nanpercentile(shares, [2.5, 97.5])
    total = gaps.sum(0)
    return simulated.Preference(float(total[0] / total[1]) if total[1] else float("nan"), low, high, len(gaps))
