"""Can these labels be trusted? Frames in, numbers and one plain sentence out.

Every question takes the frame of `LabelStore.labels_frame()` (one row an answer) and can be asked of any time window:
online collection suffers when bad labels are found only after training on them. Answers are compared by *stored*
index, so the order in which the cards were shown does not matter, except to `position_bias`, which asks about it.
"""

import krippendorff
import numpy as np
import pandas as pd
from scipy.stats import binomtest, chisquare, norm

from rlhf_lib.labels import signs
from rlhf_lib.labels.answers import CHOICES, Reading, answers_of, choices_of, credits_of, firsts_of, share_table, within
from rlhf_lib.labels.frames import SAMPLE_COLUMNS
from rlhf_lib.labels.simulated import copied_share

CHANCE = 0.25  # of the four-way comparisons, which every question is about unless another `kind` is given
PUBLISHED = {"authors with labelers": (0.38, 0.46), "authors with each other": (0.60, 0.60), "chance": (0.25, 0.25)}
ENOUGH = signs.ENOUGH  # below so many answers, no reading raises an alarm
ENOUGH_GOLD = 10  # gold items are dear, and speak soonest
FLOOR_SECONDS = 1.5  # no item can be read faster than this, four short continuations least of all
FOUR = "best_of_4"
COPIES_TOO_MUCH = {FOUR: 1.5 * CHANCE, "preference": 0.6}  # a share of picks that is more than a matter of taste


def agreement(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> Reading:
    """Agreement between labelers on the same comparison: raw, as in the paper, and Krippendorff's nominal alpha.

    `numbers`: agreement (share of pairs of labelers that picked the same), alpha, n_comparisons, n_pairs. The table
    gives each labeler's agreement with all others (a 95% interval as if comparisons were independent).
    """
    shared, chance = credits_of(choices_of(labels, kind, since, until)), chance_of(kind)
    if shared.empty:
        text = "No comparison has two labelers yet: plan an overlap of 10 to 20% to see whether they agree."
        return Reading("agreement", {}, share_table(pd.Series(dtype=float), pd.Series(dtype=object)), text, False)
    pairs = shared["m"] - 1  # each pair is counted from both its ends
    numbers = {
        "agreement": float((shared["agrees"] * pairs).sum() / pairs.sum()),
        "alpha": _alpha(shared),
        "n_comparisons": int(shared["comparison_id"].nunique()),
        "n_pairs": int(pairs.sum() // 2),
        "chance": chance,
    }
    if kind == FOUR:
        numbers["published"] = PUBLISHED
    enough, low = numbers["n_pairs"] >= ENOUGH, numbers["agreement"] < 4 / 3 * chance
    advice = "low: read some disagreements together and sharpen the instruction" if low else "well above chance: go on"
    alpha = "undefined: one answer for all" if np.isnan(numbers["alpha"]) else f"{numbers['alpha']:.2f}"
    people = "published: 38-46% authors with labelers, about 60% among authors; " if kind == FOUR else ""
    text = (
        f"Two labelers gave the same answer in {numbers['agreement']:.0%} of {numbers['n_pairs']} pairs "
        f"(alpha {alpha}; {people}chance {chance:.0%})"
        f"; {advice if enough else 'too few pairs to judge yet'}."
    )
    return Reading("agreement", numbers, share_table(shared["agrees"], shared["labeler"]), text, enough and low)


def _alpha(shared: pd.DataFrame) -> float:
    """Krippendorff's alpha, nominal; NaN where everybody always gave one and the same answer."""
    if shared["best"].nunique() < 2:
        return float("nan")
    matrix = shared.pivot(index="labeler", columns="comparison_id", values="best").to_numpy(dtype=float)
    return float(krippendorff.alpha(reliability_data=matrix, level_of_measurement="nominal"))


def gold_agreement(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> Reading:
    """Share of gold items (known answer) answered right, per labeler."""
    rows = firsts_of(choices_of(labels, kind, since, until))
    rows = rows[rows["gold_best"].notna()] if "gold_best" in rows else rows.iloc[:0]
    table = share_table(rows["best"] == rows["gold_best"].astype(float) if len(rows) else rows["best"], rows["labeler"])
    if rows.empty:
        text = "No gold items were answered: mix in a few comparisons whose best is beyond doubt."
        return Reading("gold", {}, table, text, False)
    right = float((rows["best"] == rows["gold_best"].astype(float)).mean())
    bad = table.index[(table["high"] < 0.6) & (table["n"] >= ENOUGH_GOLD)].tolist()
    advice = f"talk to {_names(bad)} before using their labels" if bad else "nobody stands out: go on"
    text = f"Gold items answered right: {right:.0%} of {len(rows)}; {advice}."
    return Reading("gold", {"share": right, "n": len(rows), "chance": chance_of(kind)}, table, text, bool(bad))


def self_agreement(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> Reading:
    """Share of repeated comparisons on which a labeler picked what they had picked before.

    It tells how noisy the labels are, and is no ceiling for a reward model: a labeler repeats a pick in the mean of
    sum p^2 of cases, while the best guesser, who always names the likeliest pick, is right in the mean of max p.
    """
    rows, chance = choices_of(labels, kind, since, until), chance_of(kind)
    again = rows[rows["is_repeat"].astype(bool)].drop_duplicates(["comparison_id", "labeler"])
    # The first answer may lie before the window.
    before = firsts_of(choices_of(labels, kind, None, until))[["comparison_id", "labeler", "best"]]
    both = again.merge(before, on=["comparison_id", "labeler"], suffixes=("", "_before"))
    table = share_table(both["best"] == both["best_before"], both["labeler"])
    if both.empty:
        text = "No comparison was shown twice yet: plan repeats for 5 to 10% of items to see who answers at random."
        return Reading("self-agreement", {}, table, text, False)
    share = float((both["best"] == both["best_before"]).mean())
    bad = table.index[(table["low"] <= chance) & (table["n"] >= ENOUGH)].tolist()
    advice = "above chance: go on"
    if bad:
        advice = f"{_names(bad)} may be answering at random; look at their speed and agreement"
    advice = advice if table["n"].max() >= ENOUGH else "too few repeats to judge yet"
    text = f"Shown the same comparison again, labelers repeated themselves in {share:.0%} of {len(both)}; {advice}."
    return Reading("self-agreement", {"share": share, "n": len(both), "chance": chance}, table, text, bool(bad))


def position_bias(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> Reading:
    """Where on the screen the picks fall, against uniform (chi-square). Cards are shuffled, so it should be uniform.

    Labels from elsewhere, whose order on the screen nobody kept, are left out.
    """
    rows = choices_of(labels, kind, since, until).dropna(subset=["best_shown"])
    counts = pd.crosstab(rows["labeler"], rows["best_shown"].astype(int))
    counts = counts.reindex(columns=pd.RangeIndex(CHOICES[kind], name="best_shown"), fill_value=0)
    table = counts.rename(columns=lambda position: f"position {position + 1}")
    table["p"] = [chisquare(row).pvalue if row.sum() else 1.0 for row in counts.to_numpy()]
    if rows.empty:
        return Reading("position", {}, table, "No answer has a position yet.", False)
    total = counts.sum().to_numpy()
    numbers = {"shares": (total / total.sum()).round(4).tolist(), "p": float(chisquare(total).pvalue), "n": len(rows)}
    tried = counts.sum(axis=1) >= ENOUGH
    bad = table.index[tried & (table["p"] < 0.01 / max(1, tried.sum()))].tolist()
    advice = (
        f"favouring a position: {_names(bad)}; ask whether all texts are read (the shuffle keeps the labels fair)"
        if bad
        else "no labeler favours a position beyond chance: go on"
    )
    advice = advice if tried.any() else "too few answers to judge yet"
    spread = ", ".join(f"{share:.0%}" for share in numbers["shares"])
    return Reading("position", numbers, table, f"Picks by position shown: {spread}; {advice}.", bool(bad))


def speed(labels: pd.DataFrame, since=None, until=None, floor: float = FLOOR_SECONDS, kind: str = FOUR) -> Reading:
    """Seconds an answer, and the share given faster than `floor` seconds, in which nothing can be read.

    Labels from elsewhere that say no time are left out.
    """
    rows = answers_of(labels, kind, since, until).dropna(subset=["seconds"])
    by = rows["seconds"].groupby(rows["labeler"])
    table = pd.DataFrame({"n": by.size(), "median": by.median(), "too_fast": by.agg(lambda s: (s < floor).mean())})
    if rows.empty:
        return Reading("speed", {}, table, "No answer has a time yet.", False)
    numbers = {
        "median": float(rows["seconds"].median()),
        "too_fast": float((rows["seconds"] < floor).mean()),
        "floor": floor,
    }
    bad = table.index[(table["too_fast"] > 0.2) & (table["n"] >= ENOUGH)].tolist()
    advice = (
        f"answering faster than one can read: {_names(bad)}; check for guessing"
        if bad
        else "nobody is too fast to read: go on"
    )
    advice = advice if table["n"].max() >= ENOUGH else "too few answers to judge yet"
    hasty = f"{numbers['too_fast']:.0%} under the floor of {floor:g} s"
    text = f"Median {numbers['median']:.1f} s an answer; {hasty}; {advice}."
    return Reading("speed", numbers, table, text, bool(bad))


def copy_preference(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> Reading:
    """How often the pick is the candidate that copies most from the query, beside what chance gives.

    Counted where one candidate copies more 3-grams than every other; chance is then 1 in 4 (of a pair: 1 in 2). The
    heuristic of the post's hurried labelers: whatever copies is at least true.
    """
    rows, n_texts, chance = choices_of(labels, kind, since, until), CHOICES[kind], chance_of(kind)
    texts = rows[["query", *SAMPLE_COLUMNS[:n_texts]]].to_numpy()
    shares = [[copied_share(query, text) for text in row] for query, *row in texts]
    shares = np.array(shares).reshape(len(rows), n_texts)
    ordered = np.sort(shares, axis=1)
    clear = ordered[:, -1] > ordered[:, -2]
    took_it = pd.Series(shares.argmax(axis=1) == rows["best"].to_numpy(), index=rows.index)[clear]
    table = share_table(took_it, rows["labeler"][clear])
    if not clear.any():
        return Reading("copying", {}, table, "No comparison has one candidate that copies most.", False)
    share, n = float(took_it.mean()), int(clear.sum())
    p = float(binomtest(int(took_it.sum()), n, chance, alternative="greater").pvalue)
    likes_copies = p < 0.01 and n >= ENOUGH and share > COPIES_TOO_MUCH[kind]
    advice = (
        "a model trained on these labels will learn to copy: say in the instruction whether copying is wanted"
        if likes_copies
        else "no sign that copying is rewarded: go on"
    )
    advice = advice if n >= ENOUGH else "too few to judge yet"
    text = (
        f"The candidate that copies most was picked in {share:.0%} of {n} comparisons (chance {chance:.0%}); {advice}."
    )
    return Reading("copying", {"share": share, "n": n, "chance": chance, "p": p}, table, text, likes_copies)


def drift(labels: pd.DataFrame, since=None, until=None, slices: int = 4, kind: str = FOUR) -> Reading:
    """Agreement with the others and speed in consecutive slices of each labeler's work; is the end unlike the start?

    The table has one row a labeler and slice; the alarm compares agreement in the second half with the first.
    """
    rows = choices_of(labels, kind, since, until)
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
        else "no labeler's agreement fell: go on"
    )
    advice = advice if falls else "too little to judge: let more items go to several labelers"
    text = f"First half against second half of each labeler's work: {advice}."
    return Reading("drift", {"p": falls, "chance": chance_of(kind)}, table, text, bool(bad))


def _fall(mine: pd.DataFrame) -> float | None:
    """One-sided p of a fall in agreement, second half against first; None if there are too few answers."""
    if len(mine) < 2 * ENOUGH:
        return None
    halves = [mine["agrees"].iloc[: len(mine) // 2], mine["agrees"].iloc[len(mine) // 2 :]]
    error = np.sqrt(sum(half.var() / len(half) for half in halves))
    return float(norm.cdf((halves[1].mean() - halves[0].mean()) / error)) if error > 0 else None


def guessers(labels: pd.DataFrame, since=None, until=None, level: float = 0.05, kind: str = FOUR) -> Reading:
    """Who seems to answer at random: agrees less than the others do, and no more than chance would.

    Three signs are tested for each labeler: agreement with the others (against that of the others among themselves),
    gold items and repeats (Fisher's exact test against everybody else). The smallest p, times the number of signs, is
    Holm-corrected over the labelers, so that a panel without a guesser raises an alarm in about `level` of cases at
    most. Answers before the window still serve as comparison. Different taste is not guessing: who agrees clearly
    beyond chance is not named. Assumes that items go to labelers by chance, as the queue does.
    """
    known = choices_of(labels, kind, None, until)
    recent = known[within(known, since, None)]
    shared = credits_of(known)
    gold, repeats = gold_agreement(recent, kind=kind).table, self_agreement(labels, since, until, kind).table
    rows = {}
    for name in sorted(recent["labeler"].unique()):
        mine = shared[(shared["labeler"] == name) & shared.index.isin(recent.index)]
        found = {
            "others": signs.p_others(mine, shared[shared["labeler"] != name]),
            "gold": signs.p_fewer_hits(gold, name),
            "repeats": signs.p_fewer_hits(repeats, name),
        }
        rows[name] = signs.suspicion(mine["agrees"], found)
    columns = ["n_shared", "agrees", "agrees_low", "p_others", "p_gold", "p_repeats", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("labeler")
    table["p"] = signs.holm(table["p"].to_numpy(dtype=float))
    table["suspect"] = (table["p"] < level) & ~(table["agrees_low"] > chance_of(kind))
    bad = table.index[table["suspect"]].tolist()
    text = (
        f"{_names(bad)} cannot be told from somebody guessing: set these labels aside and talk before training on them."
        if bad
        else "Nobody's answers look like guessing, as far as overlap, gold items and repeats can show: go on."
    )
    return Reading("guessers", {"suspects": bad, "level": level}, table, text, bool(bad))


QUESTIONS = {
    FOUR: (agreement, gold_agreement, self_agreement, position_bias, speed, copy_preference, drift, guessers),
    "preference": (agreement, gold_agreement, self_agreement, position_bias, speed, copy_preference, drift, guessers),
    "accuracy": (agreement, gold_agreement, self_agreement, speed, drift, guessers),
    "description": (speed,),
    "correction": (speed,),
}


def panel(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> list[Reading]:
    """Every question that there is about items of this kind, asked of one time window."""
    return [question(labels, since, until, kind=kind) for question in QUESTIONS[kind]]


def side_by_side(labels: pd.DataFrame, since=None, until=None, kind: str = FOUR) -> pd.DataFrame:
    """A row a labeler: answers, and what the questions say of each: shares, seconds (`median_s`), p (`position_p`).

    NaN where a question has nothing to go by, such as gold items for somebody who had none.
    """
    asked = {
        "agrees": agreement(labels, since, until, kind).table["share"],
        "gold_right": gold_agreement(labels, since, until, kind).table["share"],
        "same_again": self_agreement(labels, since, until, kind).table["share"],
        "median_s": speed(labels, since, until, kind=kind).table["median"],
        "too_fast": speed(labels, since, until, kind=kind).table["too_fast"],
        "position_p": position_bias(labels, since, until, kind).table["p"],
        "copies": copy_preference(labels, since, until, kind).table["share"],
    }
    answers = choices_of(labels, kind, since, until).groupby("labeler").size()
    return pd.DataFrame({"answers": answers, **asked}, index=answers.index)


def chance_of(kind: str) -> float:
    """The share of agreement that picking at random gives."""
    return 1 / CHOICES[kind]


def _names(labelers: list) -> str:
    return ", ".join(str(name) for name in labelers)
