"""What notebooks 07 to 10 share: which summaries they look at, the recorded ones, and their measures for the claims."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from rlhf_lib import claims, manifest, recordings
from rlhf_lib.analysis import baselines, preference, rates
from rlhf_lib.errors import KitError
from rlhf_lib.samples import read_samples, summaries

TASKS = ("cnndm", "tldr")
RECORDED = manifest.ROOT / "data" / "recorded" / "summary_samples.parquet"


def summary_runs(
    folder: Path, profile: str, model: str, corpus: str, seeds, tasks: str = "", core: bool = False
) -> list:
    """One `SummaryRun` a task and seed, the first seed of every task first; `tasks`: "cnndm, tldr", or "" for both.

    core: of a core run's shorter trainings (`runs.CORE`).
    """
    names = [name.strip() for name in tasks.split(",")] if tasks else list(TASKS)
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise KitError(f"There is no summary task '{unknown[0]}'; choose of {', '.join(TASKS)}.")
    from rlhf_lib.summary import SummaryRun  # torch, and only where something has to be made

    return [SummaryRun(folder, name, profile, model, corpus, seed, core=core) for seed in seeds for name in names]


def open_samples(samples: str, runs: list) -> pd.DataFrame:
    """The sample rows to look at: those of the file `samples` where one is given, else those of the runs.

    References and lead-3 stand beside them, once a task; `summary` is the text that is judged. Rows of one query are
    neighbours, so that the work on a source is done once.
    """
    if samples:
        rows = baselines.with_baselines(read_samples(samples))
    else:
        rows = pd.concat(_made(runs), ignore_index=True)
        firsts = {run.task_name: run for run in reversed(runs)}
        parts = [run.with_baselines(rows[rows["task"] == task]) for task, run in sorted(firsts.items())]
        rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(summary=summaries(rows))
    return rows.sort_values(["task", "query_id"], kind="stable", ignore_index=True)


class _Counting(io.TextIOBase):
    """Hands on what is printed, and counts the lines that say of something that it was made before."""

    def __init__(self, out):
        self.out, self.held, self.reused = out, "", 0

    def write(self, text: str) -> int:
        *lines, self.held = (self.held + text).split("\n")
        for line in lines:
            if "not made again" in line:
                self.reused += 1
            else:
                self.out.write(line + "\n")
        return len(text)


def _made(runs: list) -> list[pd.DataFrame]:
    """Every run's samples. What was made before is told in one line, and not in one a model."""
    with contextlib.redirect_stdout(_Counting(sys.stdout)) as told:
        made = [run.samples() for run in runs]
    if told.reused:
        print(f"{told.reused} models and files of samples were made before from the same inputs and are used again.")
    return made


def recorded() -> pd.DataFrame | None:
    """The recorded sweep's sample rows with references and lead-3, or None (and a sentence) where there are none."""
    if not RECORDED.is_file():
        print("There are no recorded summaries yet; `make reproduce SWEEPS=1 SEEDS=3` and `make figures` make them.")
        return None
    rows = baselines.with_baselines(read_samples(RECORDED))
    return rows.sort_values(["task", "query_id"], kind="stable", ignore_index=True)


def for_claims(rows: pd.DataFrame, profile: str, own: bool = False) -> pd.DataFrame:
    """The recorded sweep's rows in place of the run's trainings, if it was recorded with the same profile; else these.

    What claims are held against: several seeds of whole trainings. A run's own are shorter and of one seed; `claims`
    asks of them that they agree in direction. What no training made (references, lead-3) is the run's. own: somebody's
    own model, texts or samples, beside which no recording counts.
    """
    if own or not recordings.was_made_with(RECORDED.parent, "summary", profile):
        return rows
    old = read_samples(RECORDED)
    old = old[old["task"].isin(set(rows["task"]))]
    both = pd.concat([rows[rows["seed"].isna()], old.assign(summary=summaries(old))], ignore_index=True)
    return both.sort_values(["task", "query_id"], kind="stable", ignore_index=True)


def runs_of(rows: pd.DataFrame, runs: list) -> list:
    """The runs, and one like them for every other seed of the rows, for `compare_all`."""
    known = {(run.task_name, run.seed) for run in runs}
    seeds = sorted({int(seed) for seed in rows["seed"].dropna()})
    firsts = {run.task_name: run for run in reversed(runs)}
    return runs + [replace(run, seed=seed) for seed in seeds for name, run in sorted(firsts.items())
                   if (name, seed) not in known]  # fmt: skip


def beside(table: pd.DataFrame, old: pd.DataFrame | None, value: str, on: list[str]) -> pd.DataFrame:
    """A figure's table with the column `recorded`: the same value in the recorded sweep, NaN where it has none."""
    if old is None:
        return table
    return table.merge(old[[*on, value]].rename(columns={value: "recorded"}), on=on, how="left")


def name_of(kind: str, task: str, model: str, what: str = "") -> str:
    """A measure's name, such as novelty.cnndm.supervised_fine_tuned.sentence."""
    return ".".join(part for part in (kind, task, claims.slug(model), what) if part)


def named_by_model(counted: pd.DataFrame, kind: str, what: str = "") -> dict[str, pd.DataFrame]:
    """Counts a measure's name, one a task and model of `counted`."""
    groups = counted.groupby(["task", "model"], sort=False)
    return {name_of(kind, task, model, what): group for (task, model), group in groups}


def measures(named: Mapping[str, pd.DataFrame], labelers: str = "none") -> dict[str, dict]:
    """Measures of named counts, and the paired difference of every two of them that a claim holds together."""
    found = {name: rates.rate(counted) for name, counted in named.items()}
    for a, b in claims.pairs(""):
        if a in named and b in named:
            found[f"{a} - {b}"] = rates.difference(named[a], named[b])
    return {name: {**row, "labelers": labelers} for name, row in found.items()}


def keep_measures(folder: Path, notebook: str, found: dict[str, dict], own: bool, run=None) -> pd.DataFrame:
    """Write `figures/<notebook>_measures.json` and give it as a table.

    own: of somebody's own model, corpus or samples; such measures are kept under "own." and are held against no claim.
    run: the same measures of the run's own trainings, where those found are of the recorded sweep.
    """
    found = {f"own.{name}" if own and not name.startswith("real.") else name: row for name, row in found.items()}
    claims.record_measures(folder / "figures", f"{notebook}_measures", found, run)
    return pd.DataFrame(found).T.astype(object).where(lambda f: f.notna(), "–")


def chosen(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Comparisons (`task, query_id, a, b, choice`, optional `seed`) as counts, both ways; ties are half.

    `above` is a's share of the choice; `model` names the pair, "a over b".
    """
    worth = comparisons["choice"].map({"a": 1.0, "tie": 0.5, "b": 0.0})
    rows = comparisons[["task", "query_id", "a", "b"]]
    rows = rows.assign(seed=comparisons.get("seed", 0), above=worth, below=1.0)
    flipped = rows.rename(columns={"a": "b", "b": "a"}).assign(above=1 - worth)
    both = pd.concat([rows, flipped], ignore_index=True)
    return both.assign(model=both["a"] + " over " + both["b"])


def preference_table(counted: pd.DataFrame) -> pd.DataFrame:
    """Who is preferred to whom, from `chosen`: `task, a, b, share, low, high, n, seeds`."""
    groups = counted.groupby(["task", "a", "b"], sort=False)
    return pd.DataFrame(
        {"task": task, "a": a, "b": b} | {"share" if k == "value" else k: v for k, v in rates.rate(group, 500).items()}
        for (task, a, b), group in groups
    )


def compare_all(runs: list, rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Every two models on every prompt, by three simulated labelers of a kind, for each seed: comparisons with `seed`.

    Pairs that no training made (lead-3 with references) are compared for the first seed alone.
    """
    parts = []
    for run in runs:
        of_task = rows[rows["task"] == run.task_name]
        mine = of_task[of_task["seed"].isna() | (of_task["seed"] == run.seed)]
        parts.append(run.compare(kind, mine).assign(seed=run.seed))
    found = pd.concat(parts, ignore_index=True)
    fixed = set(rows.loc[rows["seed"].isna(), "model"])
    again = found["a"].isin(fixed) & found["b"].isin(fixed) & (found["seed"] != runs[0].seed)
    return found[~again].reset_index(drop=True)


def compare_own(rows: pd.DataFrame, kind: str, judges: int = 3) -> pd.DataFrame:
    """The same for somebody's own samples, by simulated labelers without noise: nothing says how noisy to make them."""
    from rlhf_lib.labels import simulated, summaries

    judge = simulated.SimulatedLabeler(summaries.summary_score(kind, summaries.sources_of(rows)), 0.0, 0)
    return preference.compare_models(rows, list(dict.fromkeys(rows["model"])), judge.pick, judges)


# -- the same summaries, asked about in three ways -------------------------------------------------------------------


def base_fours(run, count: int) -> tuple[list[dict], dict[str, dict]]:
    """`count` comparisons of four base summaries each (rows `query, responses`), and their texts' facts by query.

    No facts where the texts are not the embedded world's. Sampled once, then kept.
    """
    from rlhf_lib import collect

    def make(path: Path) -> None:
        rows = collect.comparisons(run.base[0], run.some_queries(count, "train", 500), run.task, 13)
        manifest.write_json(path, {"rows": rows})

    where = manifest.cached(run.run_dir, f"samples/{run.task_name}_fours.json", run._inputs(count=count), make,
                            ("collect", "corpora.streams"))  # fmt: skip
    sources = run.sources(count, "train", 500)
    return manifest.read_json(where)["rows"], {query: s.facts for query, s in sources.items() if s.facts is not None}


SLIPS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def slip_for(fours: list[dict], facts: dict[str, dict], target: float, grid=SLIPS) -> float:
    """The slip of two simulated readers at which they agree on the best of four nearest to `target`, out of `grid`."""
    from rlhf_lib.labels.readers import SimulatedReader

    def agreed(slip: float) -> float:
        pair = [SimulatedReader(facts, slip, seed) for seed in (1, 2)]
        return sum(len({reader.pick(row["query"], row["responses"]) for reader in pair}) == 1 for row in fours) / len(
            fours
        )

    return min(grid, key=lambda slip: abs(agreed(slip) - target))


def ask_in_three_ways(store, fours: list[dict], labelers: dict) -> pd.DataFrame:
    """Two or more readers answer the same summaries as best of four, by problem tags and by corrections.

    labelers: name -> `readers.SimulatedReader`. The first of each four is the one that is described and corrected.
    Returns `kind, item, labeler, verdict`: the stored best, the tags, or the corrected text ("as it is" for none).
    """
    from rlhf_lib.labels import LabelSession, readers

    asked = {"best_of_4": slice(None), "description": slice(1), "correction": slice(1)}
    found = []
    for kind, part in asked.items():
        items = [{"id": f"{kind}-{n}", "query": row["query"], "samples": row["responses"][part]}
                 for n, row in enumerate(fours)]  # fmt: skip
        if store.count_items(kind) == 0:
            store.add_items(kind, items, kind=kind, overlap_share=1.0, overlap=len(labelers))
        for name, reader in labelers.items():
            readers.answer_all(LabelSession(store, name, kind), reader)
        found.append(verdicts_of(store.labels_frame(queue=kind)))
        skips = store.events(kind="skip", queue=kind)
        found.append(pd.DataFrame([(kind, e.item_id, e.labeler, "as it is") for e in skips], columns=VERDICT_COLUMNS))
    return pd.concat(found, ignore_index=True)


VERDICT_COLUMNS = ["kind", "item", "labeler", "verdict"]


def verdicts_of(labels: pd.DataFrame) -> pd.DataFrame:
    """What each label says, as one comparable value: `kind, item, labeler, verdict`."""
    says = {
        "best_of_4": lambda row: f"sample {row.best}",
        "description": lambda row: ", ".join(sorted(row.tags)) or "no problem",
        "correction": lambda row: " ".join(row.text.split()),
    }
    kept = labels[labels["kind"].isin(list(says)) & ~labels["is_repeat"].astype(bool)]
    rows = [(row.kind, row.comparison_id, row.labeler, says[row.kind](row)) for row in kept.itertuples()]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def agreement_by_kind(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Agreement a kind of label: `kind, agreement, low, high, chance, beyond_chance, beyond_low, beyond_high, items`.

    `beyond_chance` is (agreement - chance) / (1 - chance): kinds with other chances can be held against one another.
    """
    rows = []
    for kind, group in verdicts.groupby("kind", sort=False):
        share, chance = preference.agreement(group), preference.chance_agreement(group)
        beyond = [(value - chance) / (1 - chance) if chance < 1 else float("nan") for value in share]
        rows.append((kind, *share, chance, *beyond, group["item"].nunique()))
    columns = ["kind", "agreement", "low", "high", "chance", "beyond_chance", "beyond_low", "beyond_high", "items"]
    return pd.DataFrame(rows, columns=columns)
