"""The recorded sweep of the known reward: every source and KL target, what is kept of it, and the paper's numbers.

`run_sweep` resumes: each policy is trained once by the run's cache.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlhf_lib import manifest
from rlhf_lib.analysis import frontier, rates
from rlhf_lib.errors import KitError
from rlhf_lib.known import MAIN_KL, SOURCES, KnownRun
from rlhf_lib.style_sweep import RECORDED

KLS = (2.0, 4.0, 8.0, 12.0, 20.0)  # targets, nats of the paper
FAR_KL = 20.0
BASE_EACH = 32  # base samples a prompt in the recorded optimum; a core run takes 4
SHOWN_PROMPTS = 12  # whose samples are kept for reading
KEPT = ("episodes", "objective/kl", "objective/score", "objective/kl_coef", "objective/entropy",
        "objective/penalised", "known/true")  # fmt: skip

# Read off the paper's figures (original-system.md section 5.2): mean true reward, log-odds
PUBLISHED_AT_KL = {
    "large": {2: 1.02, 4: 1.88, 6: 2.50, 8: 3.05, 12: 3.89, 16: 4.69, 20: 5.14},
    "middle": {2: 1.03, 4: 1.70, 6: 2.20, 8: 2.58, 12: 3.46, 16: 3.90, 20: 4.08},
    "small": {2: 0.84, 4: 1.39, 6: 1.75, 8: 2.02, 12: 2.32, 16: 2.66, 20: 2.80},
    "direct": {2: 0.63, 4: 1.55, 6: 2.51, 8: 3.26, 12: 4.41, 16: 5.31, 20: 5.99},
}
PUBLISHED_OPTIMUM = {0.5: 1.14, 1: 1.60, 2: 2.29, 4: 3.32, 6: 4.09, 7.8: 4.62}
PUBLISHED_BY_EPISODES = {  # at KL 8
    "direct": {100_000: 1.12, 500_000: 2.86, 1_000_000: 3.11, 2_000_000: 3.25},
    "large": {100_000: 1.25, 500_000: 2.88, 1_000_000: 3.00, 2_000_000: 3.08},
    "middle": {100_000: 1.29, 500_000: 2.48, 1_000_000: 2.55, 2_000_000: 2.62},
    "small": {100_000: 1.02, 500_000: 1.96, 1_000_000: 2.03, 2_000_000: 2.04},
}


def cells(seeds: int) -> Iterator[tuple[str, float | None, int]]:
    """(source, KL target, seed) of every policy: all seeds at 8, at 20, without a penalty (None), then the rest.

    The small set's policies without a penalty are those in which over-optimisation is looked for.
    """
    every = range(1, seeds + 1)
    yield from ((source, MAIN_KL, seed) for seed in every for source in SOURCES)
    yield ("direct", None, 1)
    yield from (("small", FAR_KL, seed) for seed in every)
    yield from (("small", None, seed) for seed in every)
    done = {(source, MAIN_KL) for source in SOURCES} | {("small", FAR_KL)}
    yield from ((source, kl, 1) for kl in KLS for source in SOURCES if (source, kl) not in done)


def run_sweep(run_dir: Path, profile: str, seeds: int, only=None, **where) -> pd.DataFrame:
    """Train and measure every policy of `cells` (or of ``only``); rows as `KnownRun.known_row` gives them.

    ``where``: model, corpus, overrides. Goes on where it was stopped; says what it has done after each.
    """
    rows = []
    for source, kl, seed in cells(seeds) if only is None else only:
        rows.append(KnownRun(run_dir, "sentiment", profile, seed=seed, **where).known_row(source, kl))
        pd.DataFrame(rows).to_json(run_dir / "metrics" / "known_sweep.json", orient="records", indent=1)
        done = rows[-1]
        print(f"{source}, KL target {kl}, seed {seed}: KL {done['kl']:.2f} nats, true reward {done['true']:+.2f}, "
              f"{done['seconds']:.0f} s", flush=True)  # fmt: skip
    return pd.DataFrame(rows)


def scores_of(run_dir: Path, profile: str, rows: pd.DataFrame, **where) -> pd.DataFrame:
    """Every sample of every policy of the rows: `source, target, seed, query_id, kl, true, proxy, base_logprob`."""
    parts = []
    for row in rows.itertuples():
        kl = None if pd.isna(row.target) else row.target
        run = KnownRun(run_dir, "sentiment", profile, seed=row.seed, **where)
        parts.append(run.known_samples(row.source, kl).assign(source=row.source, target=kl, seed=row.seed))
    return pd.concat(parts, ignore_index=True)


def curves_of(run_dir: Path, profile: str, rows: pd.DataFrame, **where) -> pd.DataFrame:
    """The metrics of every policy of the rows, an update a row, those that are drawn."""
    parts = []
    for row in rows.itertuples():
        kl = None if pd.isna(row.target) else row.target
        metrics = KnownRun(run_dir, "sentiment", profile, seed=row.seed, **where).known_metrics(row.source, kl)
        parts.append(metrics[list(KEPT)].assign(source=row.source, target=kl, seed=row.seed))
    return pd.concat(parts, ignore_index=True)


def record(run_dir: Path, profile: str, rows: pd.DataFrame, folder: Path = RECORDED, **where) -> None:
    """Keep a sweep: rows, every sample's scores, curves, samples of some prompts to read, and the base's rewards."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = scores_of(run_dir, profile, rows, **where)
    base = KnownRun(run_dir, "sentiment", profile, **where).base_scores(BASE_EACH)
    few = [f"q{i}" for i in range(SHOWN_PROMPTS)]
    shown = samples[samples["query_id"].isin(few) & (samples["seed"] == 1)]
    first = base[base["query_id"].isin(few)].drop_duplicates("query_id").assign(source="base", target=0.0)
    numbers = ["source", "target", "seed", "query_id", "penalised", "kl", "true", "proxy", "base_logprob"]
    rows.to_json(folder / "known_sweep.json", orient="records", indent=1)
    _small(samples[numbers]).to_parquet(folder / "known_scores.parquet", index=False)
    _small(curves_of(run_dir, profile, rows, **where)).to_parquet(folder / "known_curves.parquet", index=False)
    pd.concat([first, shown]).to_parquet(folder / "known_samples.parquet", index=False)
    _small(base[["query_id", "true"]]).to_parquet(folder / "known_base.parquet", index=False)
    manifest.write_json(folder / "known_manifest.json", {
        "profile": profile, "versions": manifest.versions(), "git": manifest.git_state(), "runs": len(rows),
        "labelers": "simulated", "source": manifest.source_hash(("known_sweep",)),
    })  # fmt: skip


class Sweep(NamedTuple):
    """A recorded sweep: a row a policy, a row a sample, a row an update, samples to read, the base's rewards."""

    rows: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    samples: pd.DataFrame
    base: pd.DataFrame


def open_sweep(folder: Path = RECORDED) -> Sweep:
    """What `record` wrote; KitError if it is not there."""
    if not (folder / "known_sweep.json").is_file():
        raise KitError(
            f"No sweep is recorded in {folder}: make it with `make reproduce SWEEPS=1 SEEDS=3` and `make figures`."
        )
    rows = pd.read_json(folder / "known_sweep.json")
    return Sweep(rows, *(pd.read_parquet(folder / f"known_{name}.parquet") for name in Sweep._fields[1:]))


def _small(frame: pd.DataFrame) -> pd.DataFrame:
    """The same numbers in half the space."""
    return frame.astype({name: "float32" for name in frame.select_dtypes("float64").columns})


# -- what figures and claims are made of ------------------------------------------------------------------------------


def frontier_points(rows: pd.DataFrame) -> pd.DataFrame:
    """`source, target, kl, reward, low, high`: the base at KL 0 and every target, seeds averaged."""
    points = []
    for source, mine in rows[rows["target"].notna()].groupby("source", sort=False):
        start = mine["true_base"].mean()
        points.append({"source": source, "target": 0.0, "kl": 0.0, "reward": start, "low": start, "high": start})
        for target, same in mine.groupby("target"):
            half = 1.96 * same["true_se"].mean() / np.sqrt(len(same))
            reward = same["true"].mean()
            points.append({"source": source, "target": target, "kl": same["kl"].mean(), "reward": reward,
                           "low": reward - half, "high": reward + half})  # fmt: skip
    return pd.DataFrame(points)


def published_frontier() -> pd.DataFrame:
    """The paper's points in the columns of `frontier_points`."""
    return pd.DataFrame(
        [
            {"source": source, "target": kl, "kl": kl, "reward": reward}
            for source, points in PUBLISHED_AT_KL.items()
            for kl, reward in points.items()
        ]
    )


def by_episodes(curves: pd.DataFrame, points: int = 20) -> pd.DataFrame:
    """True reward along the runs at the main KL: `source, episodes, reward`, seeds averaged, `points` values each."""
    main = curves[curves["target"] == MAIN_KL]
    longest = main.groupby("source")["episodes"].transform("max")
    bins = np.ceil(points * main["episodes"] / longest).rename("bin")
    mean = main.groupby(["source", bins])[["episodes", "known/true"]].mean().reset_index()
    return mean.rename(columns={"known/true": "reward"})[["source", "episodes", "reward"]]


def published_by_episodes() -> pd.DataFrame:
    """The paper's points in the columns of `by_episodes`."""
    return pd.DataFrame(
        [
            {"source": source, "episodes": episodes, "reward": reward}
            for source, points in PUBLISHED_BY_EPISODES.items()
            for episodes, reward in points.items()
        ]
    )


def base_rewards(base: pd.DataFrame) -> np.ndarray:
    """The base's true rewards as [prompts, samples], for `frontier.optimum_at`."""
    return np.stack([group.to_numpy(float) for _, group in base.groupby("query_id", sort=False)["true"]])


def reward_counts(scores: pd.DataFrame, rows: pd.DataFrame, source: str, kl: float) -> pd.DataFrame:
    """The main policies of a source as counts for `rates`, moved to one common KL (nats).

    A policy ends near its target, not on it; each seed's rewards are moved by what the source's own frontier has
    between the KL that it has and the KL that is asked for.
    """
    points, parts = frontier_points(rows).query("source == @source"), []
    mine = scores[(scores["source"] == source) & (scores["target"] == MAIN_KL)]
    far = points["kl"].max()
    for _, same in mine.groupby("seed"):
        own = min(same["kl"].mean(), far)
        shift = frontier.at_kl(points, min(kl, far)) - frontier.at_kl(points, own)
        parts.append(same.assign(true=same["true"] + shift))
    moved = pd.concat(parts).assign(task="sentiment", model=source)
    return rates.counts(moved, moved["true"])


def excess(
    curves: pd.DataFrame, rows: pd.DataFrame, source: str = "small", target: float | None = None, width: int = 640
) -> pd.DataFrame:
    """Proxy and true reward along runs, both in the base's units: `episodes, kl, proxy, true`.

    target: the runs' KL target, None for those without a penalty. Seeds and `width` episodes are averaged.
    """
    parts = []
    for seed, run in policies(curves, source, target).groupby("seed"):
        row = policies(rows[rows["seed"] == seed], source, target).iloc[0]
        parts.append(pd.DataFrame({
            "bin": np.ceil(run["episodes"] / width), "episodes": run["episodes"], "kl": run["objective/kl"],
            "proxy": frontier.standardised(run["objective/score"], row["proxy_base"], row["proxy_base_std"]),
            "true": frontier.standardised(run["known/true"], row["true_base"], row["true_base_std"]),
        }))  # fmt: skip
    return pd.concat(parts).groupby("bin").mean().reset_index(drop=True)


def policies(frame: pd.DataFrame, source: str, target: float | None) -> pd.DataFrame:
    """The rows of one source at one KL target, None for the policies without a penalty."""
    aimed = frame["target"].isna() if target is None else frame["target"] == target
    return frame[(frame["source"] == source) & aimed]


def gap_counts(scores: pd.DataFrame, rows: pd.DataFrame, target: float | None, source: str = "small") -> pd.DataFrame:
    """Proxy minus true reward, both in the base's units, of every sample at one target, as counts for `rates`."""
    parts = []
    for row in policies(rows, source, target).itertuples():
        mine = policies(scores[scores["seed"] == row.seed], source, target)
        proxy = frontier.standardised(mine["proxy"], row.proxy_base, row.proxy_base_std)
        parts.append(mine.assign(gap=proxy - frontier.standardised(mine["true"], row.true_base, row.true_base_std)))
    gaps = pd.concat(parts).assign(task="sentiment", model=source)
    return rates.counts(gaps, gaps["gap"])


def measures(rows: pd.DataFrame, scores: pd.DataFrame, base: pd.DataFrame) -> dict[str, dict]:
    """What the claims `known.*` are held against, as far as the sweep has the policies that each needs."""
    have = {(source, None if pd.isna(target) else target) for source, target in rows[["source", "target"]].to_numpy()}
    found, kl = {}, rows.loc[rows["target"] == MAIN_KL, "kl_target"].mean()
    moved = {s: reward_counts(scores, rows, s, kl) for s in SOURCES if (s, MAIN_KL) in have}
    found |= {f"known.reward_at_kl.{source}": rates.rate(counted) for source, counted in moved.items()}
    for a, b in pairwise(SOURCES):
        if {a, b} <= set(moved):
            name = f"known.reward_at_kl.{a} - known.reward_at_kl.{b}"
            found[name] = rates.difference(moved[a], moved[b])
    if "direct" in moved:
        seeds = found["known.reward_at_kl.direct"]["seeds"]  # the optimum has no training, so any number of seeds
        best = frontier.optimum_at(base_rewards(base), kl)
        found["known.reward_at_kl.optimum"] = {**best._asdict(), "n": base["query_id"].nunique(), "seeds": seeds}
    if {("small", MAIN_KL), ("small", None)} <= have:
        early, final = gap_counts(scores, rows, MAIN_KL), gap_counts(scores, rows, None)
        found |= {"known.proxy_minus_true.early": rates.rate(early), "known.proxy_minus_true.final": rates.rate(final)}
        found["known.proxy_minus_true.final - known.proxy_minus_true.early"] = rates.difference(final, early)
    free = policies(scores, "direct", None).assign(task="sentiment", model="free")
    if len(free):
        judged = free[~free["penalised"]]  # the others' score is the penalty, whatever they say
        found["known.beta_0.positive_share"] = rates.rate(rates.counts(judged, judged["true"] > 0))
        drop = rows["base_logprob_base"].mean() - free["base_logprob"]
        found["known.beta_0.loglik_drop"] = rates.rate(rates.counts(free, drop))
    return found


def measures_of_one(row: dict, base_reward: np.ndarray) -> dict[str, dict]:
    """What one direct policy alone can say of the claims: its reward, and the optimum's where that is trusted."""
    half, best = 1.96 * row["true_se"], frontier.optimum_at(base_reward, row["kl"])
    own = {"value": row["true"], "low": row["true"] - half, "high": row["true"] + half, "n": row["prompts"]}
    found = {"known.reward_at_kl.direct": own}
    if np.isfinite(best.value):
        found["known.reward_at_kl.optimum"] = {**best._asdict(), "n": row["prompts"]}
    return found


def for_reading(samples: pd.DataFrame, rows: pd.DataFrame, source: str = "direct") -> pd.DataFrame:
    """Kept samples of the base and of one source's policies, with `policy` and `policy_kl`, for `kl_slider`."""
    mine = rows[(rows["source"] == source) & (rows["seed"] == 1)]
    named = [("base", 0.0, 0.0)]
    for row in mine.itertuples():
        free = pd.isna(row.target)
        named.append(("no penalty" if free else f"target {row.kl_target:.1f}", row.kl, None if free else row.target))
    parts = []
    for name, kl, target in named:
        same = samples["target"].isna() if target is None else samples["target"] == target
        whose = samples["source"] == ("base" if name == "base" else source)
        parts.append(samples[same & whose].assign(policy=name, policy_kl=kl))
    return pd.concat(parts, ignore_index=True)
