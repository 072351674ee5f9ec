"""The original's released labels: `offline_5k.json`, `online_45k.json`, `offline_60k.json`, and their hub copies.

A row holds token ids of GPT-2's vocabulary: `query`, `sample0` to `sample3`, and `best`; 50259 is padding. The files
have repeats and rows of four equal samples (original-system.md section 1.4), which leave before anything is split, or
the held-out part would know rows of the training part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rlhf_lib.errors import KitError
from rlhf_lib.labels.importing import GPT2_VOCAB, PAD_ID
from rlhf_lib.labels.rowfiles import file_rows
from rlhf_lib.labels.schema import brief, check_index
from rlhf_lib.network import offline_if_unreachable

HUB_COPY = "vwxyzjn/lm-human-preferences"  # hub data set with files such as sentiment/offline_5k.json
SAMPLES = tuple(f"sample{k}" for k in range(4))
FULL_STOP = 13  # what "." is in GPT-2's vocabulary


def read_original(source: str | Path, decode: Callable[[list[int]], str] | None = None) -> tuple[list[dict], dict]:
    """Rows `query, responses, best` without padding, as `picks.encode_labels` takes them, and what was dropped.

    source: a file, or "hub:" and a path in the hub's copy ("hub:sentiment/offline_5k.json"). decode: GPT-2 token ids to
    text, for a model with another vocabulary; without it the rows hold token ids. Returns also the counts `rows`,
    `duplicate`, `all_equal`. Raises KitError naming file, row and field of the first bad row, or if nothing is left.
    """
    name, rows = _rows(source)
    kept: dict[tuple, dict] = {}
    counts = {"rows": 0, "duplicate": 0, "all_equal": 0}
    for number, row in rows:
        where = f"{name}, row {number}"
        if isinstance(row, KitError):
            raise KitError(f"{where} {row}")
        query, samples, best = _checked(row, where)
        counts["rows"] += 1
        if len(set(samples)) == 1:
            counts["all_equal"] += 1
        elif (query, samples, best) in kept:
            counts["duplicate"] += 1
        else:
            kept[query, samples, best] = {"query": list(query), "responses": [list(s) for s in samples], "best": best}
    if not kept:
        raise KitError(f"{name} holds no label that can be used ({counts}); download it again.")
    found = list(kept.values())
    if decode is not None:
        found = [
            {"query": decode(row["query"]), "responses": [decode(s) for s in row["responses"]], "best": row["best"]}
            for row in found
        ]
    return found, counts


def speaks_gpt2(tokenizer) -> bool:
    """Whether a tokenizer has GPT-2's vocabulary, so that the files' token ids are its own."""
    probe = [" the", ".", "\n", " sentence"]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in probe]
    return len(tokenizer) >= GPT2_VOCAB and ids == [[262], [FULL_STOP], [198], [6827]]


def _rows(source: str | Path) -> tuple[str, Iterable[tuple[int, Any]]]:
    """A name for messages, and the numbered rows."""
    if not str(source).startswith("hub:"):
        return Path(source).name, file_rows(Path(source))
    file = str(source).removeprefix("hub:")
    from huggingface_hub import hf_hub_download

    try:
        with offline_if_unreachable():
            path = hf_hub_download(HUB_COPY, file, repo_type="dataset")
    except Exception as error:  # the hub's client raises a dozen unrelated types
        said = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise KitError(
            f"The labels '{file}' of {HUB_COPY} could not be had from the hub ({said}); download the file elsewhere "
            "(data/README.md says where) and give its path."
        ) from error
    return file, file_rows(Path(path))


def _checked(row: Any, where: str) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], int]:
    """Query, four samples and best of one row, padding taken off."""
    if not isinstance(row, dict):
        raise KitError(f"{where} must be an object with query, sample0..3 and best, not {brief(row)}.")
    fields = {name: tuple(_tokens(row, name, where)) for name in ("query", *SAMPLES)}
    for name, tokens in fields.items():
        if not tokens:
            raise KitError(f"{where}, field {name!r} holds nothing but padding; repair or leave out the row.")
    best = check_index(row.get("best"), 4, f"{where}, field 'best'")
    return fields["query"], tuple(fields[name] for name in SAMPLES), best


def _tokens(row: dict, name: str, where: str) -> Iterator[int]:
    value = row.get(name)
    if not isinstance(value, list):
        raise KitError(f"{where}, field {name!r} must be a list of token ids, not {brief(value)}.")
    for token in value:
        if isinstance(token, bool) or not isinstance(token, int) or not (0 <= token < GPT2_VOCAB or token == PAD_ID):
            raise KitError(f"{where}, field {name!r} must hold GPT-2 token ids or {PAD_ID}, not {brief(token)}.")
        if token != PAD_ID:
            yield token
