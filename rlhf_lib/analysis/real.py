"""Real articles, posts and human judgements, where the user has them: the files as rows that the analyses read.

The kit ships none of these texts. They are looked for in a folder that is given, in RLHF_REAL_DATA, or at
`../shared/real` from the kit's root; each is a `.jsonl.gz` with one object a line.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pandas as pd

from rlhf_lib.errors import KitError
from rlhf_lib.manifest import ROOT
from rlhf_lib.samples import samples_frame


def folder(given: str | os.PathLike = "") -> Path | None:
    """The folder of real data, or None where there is none. Raises KitError for a given one that is not there."""
    if given and not Path(given).is_dir():
        raise KitError(f"There is no folder {given} of real data; correct `real`, or leave it empty.")
    found = Path(given or os.environ.get("RLHF_REAL_DATA") or ROOT.parent / "shared" / "real")
    return found if found.is_dir() else None


def rows_of(where: Path, name: str) -> list[dict]:
    """All rows of `where/<name>.jsonl.gz`. Raises KitError where it is missing or broken."""
    path = where / f"{name}.jsonl.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except (OSError, EOFError, ValueError) as error:
        raise KitError(f"{path} cannot be read ({error}); it must be gzipped JSON lines.") from error


def articles(where: Path, limit: int | None = None) -> pd.DataFrame:
    """CNN/DM rows as the hub has them: cased, not tokenised (nearly all CNN, highlights with detached full stops).

    Sample rows of the model "none" with an empty response: it is the references and lead-3 that are looked at.
    """
    rows = [r for r in rows_of(where, "cnndm_real") if r["cased"] and not r["tokenized"]][:limit]
    return samples_frame(
        {
            "task": "cnndm",
            "model": "none",
            "query": r["article"],
            "response": "",
            "reference": "\n".join(r["highlights"]),
        }
        for r in rows
    )


def posts(where: Path, limit: int | None = None) -> pd.DataFrame:
    """Reddit posts with their authors' own TL;DR, and the summaries of OpenAI's later 1.3B RL model (2020)."""
    return samples_frame(
        {"task": "tldr", "model": "RL 1.3B (2020)", "query": r["post"], "reference": r["summary"],
         "response": r["ppo_1b_summary"]}
        for r in rows_of(where, "tldr_real")[:limit]
    )  # fmt: skip


def judgements(where: Path, each: int | None = None) -> pd.DataFrame:
    """Human accuracy judgements: `dataset, level, source, summary, label`, at most `each` a set, drawn at random."""
    data = pd.DataFrame(rows_of(where, "human_faithfulness"))[["dataset", "level", "source", "summary", "label"]]
    groups = data.groupby(["dataset", "level"], sort=False)
    drawn = [group if each is None else group.sample(min(each, len(group)), random_state=0) for _, group in groups]
    return pd.concat(drawn, ignore_index=True)


def official_rouge(where: Path, systems: int | None = None) -> pd.DataFrame:
    """Summaries with the official Perl script's scores: `reference, summary, rouge1, rouge2, rougeL`, F1 0 to 1."""
    pairs = [(r, s) for r in rows_of(where, "realsumm_cnndm") for s in r["systems"][:systems]]
    rows = [
        ("\n".join(r["reference_sents"]), "\n".join(s["summary_sents"]), *(s[f"rouge_{k}_f_score"] for k in "12l"))
        for r, s in pairs
    ]
    return pd.DataFrame(rows, columns=["reference", "summary", "rouge1", "rouge2", "rougeL"])


def news_choices(where: Path, question: str = "overall") -> pd.DataFrame:
    """People's choices between two news summaries: `source, summary_a, summary_b, choice` ("a", "b", "tie")."""
    rows = rows_of(where, "prefs_news_pairwise_human")
    return pd.DataFrame(
        [(r["article"], r["summary_a"], r["summary_b"], r[question]) for r in rows],
        columns=["source", "summary_a", "summary_b", "choice"],
    )
