"""Who tells the truth: the world's fact checker, and people's blind judgements, thirty a model as in the post.

The two are never mixed, nor with the automatic estimate for real text (`estimate.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pandas as pd

from rlhf_lib.analysis import rates, stats, text
from rlhf_lib.corpora import tinyworld_check
from rlhf_lib.corpora import tinyworld_grammar as grammar
from rlhf_lib.samples import facts_of, summaries

# Authors' judgements in the blog post: accurate of 30, (articles, posts).
PUBLISHED_ACCURATE = {
    "zero-shot": (6, 6),
    "fine-tuned": (29, 26),
    "supervised": (19, 8),
    "supervised + fine-tuned": (20, 11),
}
PUBLISHED_JUDGED = 30


def check_rows(samples: pd.DataFrame, check: Callable) -> pd.DataFrame:
    """A fact checker's verdict on every row with facts: `task, model, seed, query_id, accurate, checkable` (bool).

    `check(summary, facts)` gives an object with `accurate` and `checkable`, as the embedded world's does. Rows without
    facts are left out: nothing is known of them.
    """
    kept = samples[samples["facts"].notna()]
    verdicts = [check(summary, facts_of(facts)) for summary, facts in zip(summaries(kept), kept["facts"], strict=True)]
    table = kept[["task", "model", "seed", "query_id"]].reset_index(drop=True)
    return table.assign(
        accurate=pd.Series([v.accurate for v in verdicts], dtype=bool),
        checkable=pd.Series([v.checkable for v in verdicts], dtype=bool),
    )


def checked_accuracy(samples: pd.DataFrame, check: Callable) -> pd.DataFrame:
    """Accuracy by a fact checker (see `check_rows`): `task, model, accurate, low, high, n, seeds, nothing_checkable`.

    A summary that says nothing checkable counts as not accurate; its share is shown. Intervals are those of `rates`.
    No row where nothing has facts.
    """
    checked = check_rows(samples, check)
    table = rates.table(rates.counts(checked, checked["accurate"])).rename(columns={"value": "accurate"})
    silent = 1 - checked.groupby(["task", "model"], sort=False)["checkable"].mean()
    silent = silent.rename("nothing_checkable").reset_index()
    return table.merge(silent, on=["task", "model"], how="left")


GARBLED, ELSEWHERE = "garbled", "another kind of text"  # sentences that state no fact of their source's kind


def stated_facts(samples: pd.DataFrame) -> pd.DataFrame:
    """Every fact that summaries of the embedded world state: `task, model, seed, query_id, sentence, slot, right`.

    `slot` says what it is ("town", "n" for a number) and `right` whether it is the source's own. A sentence that fits
    no wording of its source's kind has a single row, not right: its slot is `ELSEWHERE` if it is a sentence of the
    world all the same (a theft, where the article has an election) and `GARBLED` if not. Preambles are left out.
    """
    rows = []
    for row, summary in zip(samples.itertuples(), summaries(samples), strict=True):
        facts = facts_of(row.facts)
        for place, sentence in enumerate(grammar.sentences_of(summary) if facts else ()):
            fitting = (grammar.match(wording, sentence) for wording in tinyworld_check.templates_of(facts["kind"]))
            stated = next((found for found in fitting if found is not None), None)
            if stated is not None:
                said = [(slot.rstrip("0123456789"), facts.get(slot) == word) for slot, word in stated.items()]
            elif tinyworld_check.check(sentence, facts).checkable:
                said = [(ELSEWHERE if tinyworld_check.is_grammatical(sentence) else GARBLED, False)]
            else:
                continue
            rows += [(row.task, row.model, row.seed, row.query_id, place, slot, right) for slot, right in said]
    return pd.DataFrame(rows, columns=["task", "model", "seed", "query_id", "sentence", "slot", "right"])


def blind_items(samples: pd.DataFrame, per_model: int = 30, seed: int = 0) -> tuple[str, list[dict]]:
    """(queue, items) for people to judge: `per_model` summaries a task and model where there are so many, shuffled.

    Items are those of `LabelStore.add_items(queue, items, kind="accuracy")`. Which model wrote a summary is kept in
    `meta`, which no panel shows. The queue's name follows from its contents: another run's summaries are another queue.
    """
    rows = samples.assign(summary=summaries(samples))
    groups = rows.groupby(["task", "model"], sort=False)
    picked = pd.concat([group.sample(min(per_model, len(group)), random_state=seed) for _, group in groups])
    picked = picked.sample(frac=1, random_state=seed)
    columns = ["task", "model", "query_id", "query", "summary"]
    content = hashlib.sha256("\0".join(picked[columns].astype(str).to_numpy().ravel()).encode()).hexdigest()
    queue = f"accuracy-{content[:8]}"
    items = [
        {
            "id": f"{queue}-{place:03d}",
            "query": row.query,
            "source": text.source_body(row.query, row.task),
            "samples": [row.summary],
            "meta": {"task": row.task, "model": row.model, "query_id": row.query_id},
        }
        for place, row in enumerate(picked[columns].itertuples())
    ]
    return queue, items


def judgements_of(labels: pd.DataFrame) -> pd.DataFrame:
    """Verdicts on `blind_items`, from `LabelStore.labels_frame`: `task, model, query_id, labeler, accurate, cant_tell`.

    "Can't tell" counts as not accurate, as a summary that nobody can check does for the fact checker.
    """
    kept = labels[(labels["kind"] == "accuracy") & ~labels["is_repeat"].astype(bool)]
    about = pd.DataFrame(list(kept["meta"]), columns=["task", "model", "query_id"], index=kept.index)
    verdict = kept["verdict"]
    about = about.assign(labeler=kept["labeler"], accurate=verdict == "true", cant_tell=verdict == "cant_tell")
    return about.reset_index(drop=True)


def judged_accuracy(judgements: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by those who judged, from `judgements_of`: `task, model, accurate, low, high` (Wilson) `, n, published`.

    `published` is the post's share of accurate summaries for the model, NaN where it has none.
    """
    rows = []
    for (task, model), group in judgements.groupby(["task", "model"], sort=False):
        share = stats.wilson(group["accurate"].astype(bool).sum(), len(group))
        rows.append((task, model, *share, len(group), published_accuracy(task, model)))
    return pd.DataFrame(rows, columns=["task", "model", "accurate", "low", "high", "n", "published"])


def published_accuracy(task: str, model: str) -> float:
    """The post's share of accurate summaries (of 30), NaN where it has none."""
    pair = PUBLISHED_ACCURATE.get(model)
    if pair is None or not (text.is_article_task(task) or text.is_post_task(task)):
        return float("nan")
    return pair[0 if text.is_article_task(task) else 1] / PUBLISHED_JUDGED
