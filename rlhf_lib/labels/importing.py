"""Labels from elsewhere: the original's JSON, JSONL, TRL-style pairs, a Hugging Face `Dataset`.

A row is checked field by field. What is wrong is said in one sentence that names file, row and field; nothing
reaches the store unless all rows are good, or the caller asked to keep the good ones (`keep_good`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rlhf_lib.errors import KitError
from rlhf_lib.labels.frames import LABEL_COLUMNS, SAMPLE_COLUMNS, moment
from rlhf_lib.labels.planning import insert_items, taken_ids
from rlhf_lib.labels.rowfiles import file_rows
from rlhf_lib.labels.schema import (
    SAMPLES_PER_KIND,
    VERDICTS,
    brief,
    check_index,
    check_item,
    check_name,
    check_text,
    events,
)
from rlhf_lib.labels.store import LabelStore

PAD_ID = 50259  # what the original's label files are padded with (reference 1.4: vocabulary size + 2)
GPT2_VOCAB = 50257
ROW_FIELDS = {*LABEL_COLUMNS, "id", "chosen", "rejected", "prompt"} - {"meta"}

Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Imported:
    """A row that passed: the comparison (as `check_item` gives it) and the answer to it."""

    row: int
    item: dict[str, Any]
    labeler: str | None
    is_repeat: bool
    at: float | None
    answer: dict[str, Any]


@dataclass(frozen=True)
class ImportReport:
    """How many labels were added, and a sentence for each row that was refused."""

    added: int
    refused: list[str]


def import_labels(
    store: LabelStore,
    source: str | Path | Iterable[dict[str, Any]],
    queue: str,
    labeler: str = "imported",
    decode: Decode | None = None,
    keep_good: bool = False,
) -> ImportReport:
    """Add labels from a file, a Hugging Face `Dataset` or any rows to the store, as items that are done.

    Args:
        source: the path of a JSON list or of JSON lines (.gz too), or the rows themselves. Rows are four-way
            (`query, sample0..3, best`), a row of `exporting.label_rows`, or a TRL-style pair (`prompt, chosen,
            rejected`).
        queue: where the comparisons go; rows without an id get one from it.
        labeler: for rows that name none.
        decode: token ids to text, for rows that hold ids (padding, id 50259, is taken off first).
        keep_good: take the good rows of a source that has bad ones.

    Raises:
        KitError: naming file, row and field of the first bad row. The store is then as it was.
    """
    check_name(queue, "A queue's name")
    check_name(labeler, "A labeler's name")
    name = Path(source).name if isinstance(source, str | Path) else "The data set"
    good, refused = read_labels(source, decode)
    good, more = _without_clashes(good, labeler, name)
    with store.write() as conn:
        good, there = _without_known(conn, good, name)
        refused = [*refused, *more, *there]
        _judge(name, good, refused, keep_good)
        _insert(conn, queue, labeler, good, store.now(conn))
    return ImportReport(len(good), refused)


def read_labels(
    source: str | Path | Iterable[dict[str, Any]], decode: Decode | None = None
) -> tuple[list[Imported], list[str]]:
    """The good rows of a source, and a sentence for each bad one. Raises KitError if a file cannot be read at all."""
    if isinstance(source, str | Path):
        name, rows = Path(source).name, file_rows(Path(source))
    else:
        name, rows = "The data set", enumerate(source, 1)
    good, refused = [], []
    for number, row in rows:
        try:
            if isinstance(row, KitError):
                raise KitError(f"{name}, row {number} {row}")
            good.append(_check_row(row, number, f"{name}, row {number}", decode))
        except KitError as error:
            refused.append(str(error))
    return good, refused


def _judge(name: str, good: list[Imported], refused: list[str], keep_good: bool) -> None:
    if not good and not refused:
        raise KitError(f"{name} holds no rows; there is nothing to import.")
    if refused and not (keep_good and good):
        others = f" {len(refused) - 1} more rows were refused too." if len(refused) > 1 else ""
        raise KitError(f"{refused[0]}{others} Nothing was imported.")


def _check_row(row: Any, number: int, where: str, decode: Decode | None) -> Imported:
    if not isinstance(row, dict):
        raise KitError(f"{where} must be an object with fields such as query and best, not {brief(row)}.")
    if "chosen" in row or "rejected" in row:
        row = _pair_as_label(row, where)
    kind = row.get("kind") or "best_of_4"
    if not isinstance(kind, str) or kind not in SAMPLES_PER_KIND:
        raise KitError(f"{where}, field 'kind' must be one of {', '.join(SAMPLES_PER_KIND)}, not {brief(kind)}.")
    texts = [_text_of(row, name, where, decode) for name in SAMPLE_COLUMNS[: SAMPLES_PER_KIND[kind]]]
    item = {name: row.get(name) for name in ("round", "policy", "reference", "source")}
    item["gold"] = int(row["gold"]) if row.get("gold") in ("0", "1", "2", "3") else row.get("gold")  # text in a Dataset
    item |= {"query": _text_of(row, "query", where, decode), "samples": texts, "meta": _meta(row, where)}
    item["id"] = _id_of(row, where)
    return Imported(
        row=number,
        item=check_item(item, kind, where),
        labeler=None if row.get("labeler") is None else check_name(row["labeler"], f"{where}, field 'labeler'"),
        is_repeat=_flag(row.get("is_repeat"), f"{where}, field 'is_repeat'"),
        at=_time(row.get("at"), f"{where}, field 'at'"),
        answer=_check_answer(row, kind, where),
    )


def _pair_as_label(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A TRL-style pair as a preference whose sample0 was chosen."""
    for name in ("prompt", "chosen", "rejected"):
        check_text(row.get(name), f"{where}, field {name!r}")
    rest = {key: value for key, value in row.items() if key not in ("prompt", "chosen", "rejected")}
    pair = {"query": row["prompt"], "sample0": row["chosen"], "sample1": row["rejected"], "best": 0}
    return {**rest, **pair, "kind": "preference"}


def _check_answer(row: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    n = SAMPLES_PER_KIND[kind]
    answer: dict[str, Any] = {"order": None, "seconds": _seconds(row.get("seconds"), f"{where}, field 'seconds'")}
    if row.get("ui_version") is not None:
        answer["ui_version"] = check_text(row["ui_version"], f"{where}, field 'ui_version'")
    if row.get("order") is not None:
        order = row["order"]
        if not isinstance(order, list) or sorted(map(str, order)) != [str(i) for i in range(n)]:
            raise KitError(f"{where}, field 'order' must hold each of 0..{n - 1} once, not {brief(order)}.")
        answer["order"] = [check_index(i, n, f"{where}, field 'order'") for i in order]
    if kind in ("best_of_4", "preference"):
        answer["best"] = check_index(row.get("best"), n, f"{where}, field 'best'")
        answer["best_shown"] = answer["order"].index(answer["best"]) if answer["order"] else None
    elif kind == "accuracy":
        if row.get("verdict") not in VERDICTS:
            said = brief(row.get("verdict"))
            raise KitError(f"{where}, field 'verdict' must be one of {', '.join(VERDICTS)}, not {said}.")
        answer["verdict"] = row["verdict"]
    else:
        answer["text"] = check_text(row.get("text"), f"{where}, field 'text'")
    if kind == "description":
        tags = row.get("tags") or []
        if not isinstance(tags, list):
            raise KitError(f"{where}, field 'tags' must be a list, not {brief(tags)}.")
        answer["tags"] = [check_name(tag, f"{where}, field 'tags'") for tag in tags]
    return answer


def _text_of(row: dict[str, Any], name: str, where: str, decode: Decode | None) -> str:
    """A text field, decoded if it holds token ids."""
    value, here = row.get(name), f"{where}, field {name!r}"
    if name not in row:
        raise KitError(f"{here} is missing.")
    if not isinstance(value, list):
        return check_text(value, here)
    for token in value:
        if isinstance(token, bool) or not isinstance(token, int) or not (0 <= token < GPT2_VOCAB or token == PAD_ID):
            raise KitError(f"{here} must hold token ids from 0 to {GPT2_VOCAB - 1} or {PAD_ID}, not {brief(token)}.")
    if decode is None:
        raise KitError(f"{here} is a list of token ids; pass decode=tokenizer.decode to import such files.")
    try:
        return check_text(decode([token for token in value if token != PAD_ID]), here)
    except KitError:
        raise
    except Exception as error:  # whatever a tokenizer raises on ids that it does not know
        raise KitError(f"{here} cannot be decoded by this tokenizer: {error}.") from error


def _id_of(row: dict[str, Any], where: str) -> str | None:
    for name in ("comparison_id", "id"):
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is not None:
            return check_name(value, f"{where}, field {name!r}")
    return None


def _meta(row: dict[str, Any], where: str) -> dict[str, Any]:
    meta = row.get("meta") or {}
    if isinstance(meta, str):  # as `exporting.to_dataset` writes it
        with suppress(ValueError, RecursionError):
            meta = json.loads(meta)
    if not isinstance(meta, dict):
        raise KitError(f"{where}, field 'meta' must be an object, not {brief(meta)}.")
    return {**meta, **{key: value for key, value in row.items() if key not in ROW_FIELDS | {"meta"}}}


def _flag(value: Any, where: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise KitError(f"{where} must be true or false, not {brief(value)}.")
    return bool(value)


def _seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise KitError(f"{where} must be seconds, a number of at least 0, not {brief(value)}.")
    return float(value)


def _time(value: Any, where: str) -> float | None:
    seconds = moment(value, where)
    if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds < 2**33):
        raise KitError(f"{where} must be a moment after 1970, not {brief(value)}.")
    return seconds


def _without_clashes(rows: list[Imported], labeler: str, name: str) -> tuple[list[Imported], list[str]]:
    """Refuse rows that use an id again: for another comparison, or for a second answer that is no repeat."""
    seen: dict[str, Imported] = {}
    answered: set[tuple[str, str]] = set()
    good, refused = [], []
    for row in rows:
        key = row.item["id"]
        if key is not None:
            first, person = seen.setdefault(key, row), (key, row.labeler or labeler)
            if first.item != row.item:
                refused.append(
                    f"{name}, row {row.row}, field 'id': {brief(key)} is row {first.row}'s, a different one."
                )
                continue
            if not row.is_repeat and person in answered:
                refused.append(
                    f"{name}, row {row.row}, field 'id': {brief(key)} is a duplicate (is_repeat is not set)."
                )
                continue
            if not row.is_repeat:
                answered.add(person)
        good.append(row)
    return good, refused


def _without_known(conn: sa.Connection, rows: list[Imported], name: str) -> tuple[list[Imported], list[str]]:
    known = taken_ids(conn, [row.item["id"] for row in rows if row.item["id"] is not None])
    refused = [
        f"{name}, row {row.row}, field 'id': {brief(row.item['id'])} is already in the store."
        for row in rows
        if row.item["id"] in known
    ]
    return [row for row in rows if row.item["id"] not in known], refused


def _insert(conn: sa.Connection, queue: str, labeler: str, rows: list[Imported], now: float) -> None:
    """Items, slots that are done, and a label event for each row, in the order of the file."""
    groups: dict[Any, list[Imported]] = {}
    for row in rows:
        groups.setdefault(row.item["id"] or ("row", row.row), []).append(row)
    answers = list(groups.values())
    places = [[_done_slot(n, row, row.labeler or labeler) for n, row in enumerate(group)] for group in answers]
    ids = insert_items(conn, queue, [group[0].item for group in answers], places)
    said = [
        (row, {"item_id": item_id, "slot_id": f"{item_id}/{n}", "queue": queue, "labeler": row.labeler or labeler})
        for item_id, group in zip(ids, answers, strict=True)
        for n, row in enumerate(group)
    ]
    said.sort(key=lambda pair: pair[0].row)
    conn.execute(sa.insert(events), [_label_event(row, of, now) for row, of in said])


def _done_slot(n: int, row: Imported, labeler: str) -> dict[str, Any]:
    repeat_of = 0 if row.is_repeat else None
    return {"n": n, "state": "done", "labeler": labeler, "shown_order": row.answer["order"], "repeat_of": repeat_of}


def _label_event(row: Imported, of: dict[str, str], now: float) -> dict[str, Any]:
    said = {"kind": "label", "at": now if row.at is None else row.at, "once": f"{of['slot_id']}:0"}
    return {**of, **said, "data": {**row.answer, "imported": True}}
