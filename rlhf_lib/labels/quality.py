"""Can these labels be trusted? Frames in, numbers and one plain sentence out.

Every question takes the frame of `LabelStore.labels_frame()` (one row an answer) and can be asked of any time window:
online collection suffers when bad labels are found only after training on them. Answers are compared by *stored*
index, so the order in which the cards were shown does not matter, except to `position_bias`, which asks about it.
"""

from typing import NamedTuple

import krippendorff
import numpy as np
import pandas as pd
from scipy.stats import binomtest, chisquare, fisher_exact, norm

from rlhf_lib.labels.answers import credits_of, firsts_of, four_way, share_table, within
from rlhf_lib.labels.simulated import copied_share, wilson

CHANCE = 0.25
PUBLISHED = {"authors with labelers": (0.38, 0.46), "authors with each other": (0.60, 0.60), "chance": (0.25, 0.25)}
ENOUGH = 20  # below so many answers, no reading raises an alarm
FLOOR_SECONDS = 1.5  # four short continuations cannot be read faster than this


class Reading(NamedTuple):
    """One question about label quality, answered: overall numbers, a row a labeler, and what to do."""

    name: str
    numbers: dict
    table: pd.DataFrame
    sentence: str
    alarm: bool


def agreement(labels: pd.DataFrame, since=None, until=None) -> Reading:
    """Agreement between labelers on the same comparison: raw, as in the paper, and Krippendorff's nominal alpha.

    `numbers`: agreement (share of pairs of labelers that picked the same), alpha, n_comparisons, n_pairs. The table
    gives each labeler's agreement with all others (a 95% interval as if comparisons were independent).
    """
    shared = credits_of(four_way(labels, since, until))
    if shared.empty:
        text = "No comparison has two labelers yet: plan an overlap of 10 to 20% to see whether they agree."
        return Reading("agreement", {}, share_table(pd.Series(dtype=float), pd.Series(dtype=object)), text, False)
    pairs = shared["m"] - 1  # each pair is counted from both its ends
    numbers = {
        "agreement": float((shared["agrees"] * pairs).sum() / pairs.sum()),
        "alpha": _alpha(shared),
        "n_comparisons": int(shared["comparison_id"].nunique()),
        "n_pairs": int(pairs.sum() // 2),
        "published": PUBLISHED,
    }
    enough, low = numbers["n_pairs"] >= ENOUGH, numbers["agreement"] < 0.33
    advice = "low: read some disagreements together and sharpen the instruction" if low else "in the range of people"
    text = (
        f"Two labelers picked the same of four in {numbers['agreement']:.0%} of {numbers['n_pairs']} pairs "
        f"(alpha {numbers['alpha']:.2f}; published: 38-46% authors with labelers, about 60% among authors; chance 25%)"
        f"; {advice if enough else 'too few pairs to judge yet'}."
    )
    return Reading("agreement", numbers, share_table(shared["agrees"], shared["labeler"]), text, enough and low)


def _alpha(shared: pd.DataFrame) -> float:
    """Krippendorff's alpha, nominal; NaN where everybody always gave one and the same answer."""
    if shared["best"].nunique() < 2:
        return float("nan")
    matrix = shared.pivot(index="labeler", columns="comparison_id", values="best").to_numpy(dtype=float)
    return float(krippendorff.alpha(reliability_data=matrix, level_of_measurement="nominal"))


def gold_agreement(labels: pd.DataFrame, since=None, until=None) -> Reading:
    """Share of gold items (known best) answered right, per labeler."""
    rows = firsts_of(four_way(labels, since, until))
    rows = rows[rows["gold_best"].notna()] if "gold_best" in rows else rows.iloc[:0]
    table = share_table(
        rows["best"] == rows["gold_best"].astype(float) if len(rows) else rows["best"], rows["labeler"]
    )
    if rows.empty:
        text = "No gold items were answered: mix in a few comparisons whose best is beyond doubt."
        return Reading("gold", {}, table, text, False)
    right = float((rows["best"] == rows["gold_best"].astype(float)).mean())
    bad = table.index[(table["high"] < 0.6) & (table["n"] >= ENOUGH)].tolist()
    advice = f"talk to {_names(bad)} before using their labels" if bad else "nobody stands out"
    text = f"Gold items answered right: {right:.0%} of {len(rows)}; {advice}."
    return Reading("gold", {"share": right, "n": len(rows)}, table, text, bool(bad))


def self_agreement(labels: pd.DataFrame, since=None, until=None) -> Reading:
    """Share of repeated comparisons on which a labeler picked what they had picked before.

    It tells how noisy the labels are, and is no ceiling for a reward model: a labeler repeats a pick in the mean of
    sum p^2 of cases, while the best guesser, who always names the likeliest pick, is right in the mean of max p.
    """
    rows = four_way(labels, since, until)
    again = rows[rows["is_repeat"].astype(bool)].drop_duplicates(["comparison_id", "labeler"])
    # The first answer may lie before the window.
    before = firsts_of(four_way(labels, None, until))[["comparison_id", "labeler", "best"]]
    both = again.merge(before, on=["comparison_id", "labeler"], suffixes=("", "_before"))
    table = share_table(both["best"] == both["best_before"], both["labeler"])
    if both.empty:
        text = "No comparison was shown twice yet: plan repeats for 5 to 10% of items to see who answers at random."
        return Reading("self-agreement", {}, table, text, False)
    share = float((both["best"] == both["best_before"]).mean())
    bad = table.index[(table["low"] <= CHANCE) & (table["n"] >= ENOUGH)].tolist()
    advice = f"{_names(bad)} may be answering at random; look at their speed and agreement" if bad else "above chance"
    advice = advice if table["n"].max() >= ENOUGH else "too few repeats to judge yet"
    text = f"Shown the same comparison again, labelers repeated themselves in {share:.0%} of {len(both)}; {advice}."
    return Reading("self-agreement", {"share": share, "n": len(both)}, table, text, bool(bad))


def position_bias(labels: pd.DataFrame, since=None, until=None) -> Reading:
    """Where on the screen the picks fall, against uniform (chi-square). Cards are shuffled, so it should be uniform."""
    rows = four_way(labels, since, until)
    counts = pd.crosstab(rows["labeler"], rows["best_shown"].astype(int)).reindex(columns=range(4), fill_value=0)
    table = counts.rename(columns=lambda position: f"position {position + 1}")
    table["p"] = [chisquare(row).pvalue if row.sum() else 1.0 for row in counts.to_numpy()]
    if rows.empty:
        return Reading("position", {}, table, "No answers yet.", False)
    total = counts.sum().to_numpy()
    numbers = {"shares": (total / total.sum()).round(4).tolist(), "p": float(chisquare(total).pvalue), "n": len(rows)}
    tried = counts.sum(axis=1) >= ENOUGH
    bad = table.index[tried & (table["p"] < 0.01 / max(1, tried.sum()))].tolist()
    advice = (
        f"favouring a position: {_names(bad)}; ask whether all four are read (the shuffle keeps the labels fair)"
        if bad
        else "no labeler favours a position beyond chance"
    )
    advice = advice if tried.any() else "too few answers to judge yet"
    spread = ", ".join(f"{share:.0%}" for share in numbers["shares"])
    return Reading("position", numbers, table, f"Picks by position shown: {spread}; {advice}.", bool(bad))


def speed(labels: pd.DataFrame, since=None, until=None, floor: float = FLOOR_SECONDS) -> Reading:
    """Seconds an answer, and the share given faster than `floor` seconds, in which four texts cannot be read."""
    rows = four_way(labels, since, until)
    by = rows["seconds"].groupby(rows["labeler"])
    table = pd.DataFrame({"n": by.size(), "median": by.median(), "too_fast": by.agg(lambda s: (s < floor).mean())})
    if rows.empty:
        return Reading("speed", {}, table, "No answers yet.", False)
    numbers = {
        "median": float(rows["seconds"].median()),
        "too_fast": float((rows["seconds"] < floor).mean()),
        "floor": floor,
    }
    bad = table.index[(table["too_fast"] > 0.2) & (table["n"] >= ENOUGH)].tolist()
    advice = (
        f"answering faster than one can read: {_names(bad)}; check for guessing"
        if bad
        else "nobody is too fast to read"
    )
    advice = advice if table["n"].max() >= ENOUGH else "too few answers to judge yet"
    hasty = f"{numbers['too_fast']:.0%} under the floor of {floor:g} s"
    text = f"Median {numbers['median']:.1f} s an answer; {hasty}; {advice}."
    return Reading("speed", numbers, table, text, bool(bad))


def copy_preference(labels: pd.DataFrame, since=None, until=None) -> Reading:
    """How often the pick is the candidate that copies most from the query, beside what chance gives.

    Counted where one candidate copies more 3-grams than every other; chance is then 1 in 4. The heuristic of the
    post's hurried labelers: whatever copies is at least true.
    """
    rows = four_way(labels, since, until)
    samples = [f"sample{i}" for i in range(4)]
    texts = rows[["query", *samples]].to_numpy()
    shares = np.array([[copied_share(query, text) for text in row] for query, *row in texts]).reshape(len(rows), 4)
    ordered = np.sort(shares, axis=1)
    clear = ordered[:, 3] > ordered[:, 2]
    took_it = pd.Series(shares.argmax(axis=1) == rows["best"].to_numpy(), index=rows.index)[clear]
    table = share_table(took_it, rows["labeler"][clear])
    if not clear.any():
        return Reading("copying", {}, table, "No comparison has one candidate that copies most.", False)
    share, n = float(took_it.mean()), int(clear.sum())
    p = float(binomtest(int(took_it.sum()), n, CHANCE, alternative="greater").pvalue)
    likes_copies = p < 0.01 and n >= ENOUGH and share > 1.5 * CHANCE
    advice = (
        "a model trained on these labels will learn to copy" if likes_copies else "no sign that copying is rewarded"
    )
    advice = advice if n >= ENOUGH else "too few to judge yet"
    text = f"The candidate that copies most was picked in {share:.0%} of {n} comparisons (chance 25%); {advice}."
    return Reading("copying", {"share": share, "n": n, "chance": CHANCE, "p": p}, table, text, likes_copies)


def drift(labels: pd.DataFrame, since=None, until=None, slices: int = 4) -> Reading:
    """Agreement with the others and speed in consecutive slices of each labeler's work; is the end unlike the start?

    The table has one row a labeler and slice; the alarm compares agreement in the second half with the first.
    """
    rows = four_way(labels, since, until)
    shared = credits_of(rows)
    agrees = shared["agrees"].reindex(rows.index)
    part = rows.groupby("labeler")["at"].transform(lambda at: np.arange(len(at)) * slices // max(1, len(at)))
    grouped = rows.assign(agrees=agrees, slice=part.astype(int) + 1).groupby(["labeler", "slice"])
    table = grouped.agg(n=("best", "size"), agrees=("agrees", "mean"), seconds=("seconds", "median"))
    falls = {name: p for name, p in ((name, _fall(mine)) for name, mine in shared.groupby("labeler")) if p is not None}
    bad = [name for name, p in falls.items() if p < 0.01 / len(falls)]
    advice = (
        f"agreeing less with the others than at the start: {_names(bad)}; take a break, look at the latest labels first"
        if bad
        else "no labeler's agreement fell"
    )
    text = (
        f"First half against second half of each labeler's work: {advice if falls else 'too little overlap to judge'}."
    )
    return Reading("drift", {"p": falls}, table, text, bool(bad))


def _fall(mine: pd.DataFrame) -> float | None:
    """One-sided p of a fall in agreement, second half against first; None if there are too few answers."""
    if len(mine) < 2 * ENOUGH:
        return None
    halves = [mine["agrees"].iloc[: len(mine) // 2], mine["agrees"].iloc[len(mine) // 2 :]]
    error = np.sqrt(sum(half.var() / len(half) for half in halves))
    return float(norm.cdf((halves[1].mean() - halves[0].mean()) / error)) if error > 0 else None


def guessers(labels: pd.DataFrame, since=None, until=None, level: float = 0.05) -> Reading:
    """Who seems to answer at random: agrees less than the others do, and no more than chance would.

    Three signs are tested for each labeler: agreement with the others (against that of the others among themselves),
    gold items and repeats (Fisher's exact test against everybody else). The smallest p, times the number of signs, is
    Holm-corrected over the labelers, so that a panel without a guesser raises an alarm in about `level` of cases at
    most. Answers before the window still serve as comparison. Different taste is not guessing: who agrees clearly
    beyond chance is not named. Assumes that items go to labelers by chance, as the queue does.
    """
    known = four_way(labels, None, until)
    recent = known[within(known, since, None)]
    shared = credits_of(known)
    gold, repeats = gold_agreement(recent).table, self_agreement(known, since).table
    rows = {}
    for name in sorted(recent["labeler"].unique()):
        mine = shared[(shared["labeler"] == name) & shared.index.isin(recent.index)]
        signs = {
            "others": _p_others(mine, shared[shared["labeler"] != name]),
            "gold": _fisher(gold, name),
            "repeats": _fisher(repeats, name),
        }
        rows[name] = _suspicion(mine["agrees"], signs)
    columns = ["n_shared", "agrees", "agrees_low", "p_others", "p_gold", "p_repeats", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("labeler")
    table["p"] = _holm(table["p"].to_numpy(dtype=float))
    table["suspect"] = (table["p"] < level) & ~(table["agrees_low"] > CHANCE)
    bad = table.index[table["suspect"]].tolist()
    text = (
        f"{_names(bad)} cannot be told from somebody guessing: set these labels aside and talk before training on them."
        if bad
        else "Nobody's answers look like guessing, as far as overlap, gold items and repeats can show."
    )
    return Reading("guessers", {"suspects": bad, "level": level}, table, text, bool(bad))


def _suspicion(agrees: pd.Series, signs: dict[str, float]) -> dict:
    """One labeler's row: agreement with the others, and the p of each sign (NaN where it cannot be read)."""
    interval = wilson(float(agrees.sum()), len(agrees)) if len(agrees) else None
    read = [p for p in signs.values() if not np.isnan(p)]
    return {
        "n_shared": len(agrees),
        "agrees": interval.share if interval else np.nan,
        "agrees_low": interval.low if interval else np.nan,
        **{f"p_{sign}": p for sign, p in signs.items()},
        "p": min(1.0, len(read) * min(read)) if read else 1.0,
    }


def _p_others(mine: pd.DataFrame, others: pd.DataFrame) -> float:
    """One-sided p that this labeler agrees with the others no less than they agree among themselves; NaN if unknown.

    A difference of two shares of agreeing pairs; its error counts comparisons as clusters, because one comparison
    enters both shares.
    """
    theirs = others.groupby(["comparison_id", "best"]).size()  # c_k without this labeler
    size = theirs.groupby("comparison_id").sum()
    cells = pd.DataFrame({"pairs": size * (size - 1), "agree": (theirs * (theirs - 1)).groupby("comparison_id").sum()})
    own = mine.set_index("comparison_id")
    cells = cells.join(
        pd.DataFrame({"own_pairs": own["m"] - 1, "own_agree": own["agrees"] * (own["m"] - 1)}), how="outer"
    )
    pairs, agree, own_pairs, own_agree = cells.fillna(0.0).to_numpy().T  # [comparisons] each
    if pairs.sum() == 0 or own_pairs.sum() == 0 or len(mine) < ENOUGH:
        return float("nan")
    among, with_them = agree.sum() / pairs.sum(), own_agree.sum() / own_pairs.sum()
    residual = (own_agree - with_them * own_pairs) / own_pairs.sum() - (agree - among * pairs) / pairs.sum()
    error = np.sqrt((residual**2).sum())
    return float(norm.cdf((with_them - among) / error)) if error > 0 else float("nan")


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values [n]."""
    order = p.argsort()
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def _fisher(table: pd.DataFrame, name: str) -> float:
    """One-sided p that this labeler's share of hits is below everybody else's pooled; NaN where nothing is known."""
    if name not in table.index or len(table) < 2:
        return float("nan")
    hits = (table["share"] * table["n"]).round()
    misses = table["n"] - hits
    others = table.index != name
    cells = [[hits[name], misses[name]], [hits[others].sum(), misses[others].sum()]]
    return float(fisher_exact(cells, alternative="less").pvalue)


def panel(labels: pd.DataFrame, since=None, until=None) -> list[Reading]:
    """Every question of this module asked of one time window."""
    questions = (agreement, gold_agreement, self_agreement, position_bias, speed, copy_preference, drift, guessers)
    return [question(labels, since, until) for question in questions]


def _names(labelers: list) -> str:
    return ", ".join(str(name) for name in labelers)
