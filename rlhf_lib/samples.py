"""The sample row: what every analysis reads, on disk as Parquet or JSON lines.

Required in every row: task, model, query, response. All other fields may be missing or null; rows from other people's
models need no more than `task, model, query, reference, response`. Further columns are kept as they are.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_lib.errors import KitError

# field: (kind, required). Kinds: text, bool, number, integer, json.
FIELDS = {
    "task": ("text", True),
    "split": ("text", False),
    "model": ("text", True),
    "query_id": ("text", False),  # made from the query's text where it is null
    "query": ("text", True),
    "reference": ("text", False),
    "response": ("text", True),  # as sampled, full length
    "response_truncated": ("text", False),  # the text up to the truncation token; what the analyses read if not null
    "penalised": ("bool", False),
    "temperature": ("number", False),
    "seed": ("integer", False),
    "starts_with_preamble": ("bool", False),
    "facts": ("json", False),  # a JSON text in the frame, an object in JSON lines
}
_DTYPES = {"text": "str", "bool": "boolean", "number": "float64", "integer": "Int64", "json": "str"}
_EXPECTED = {
    "text": "a text",
    "bool": "true or false",
    "number": "a number",
    "integer": "a whole number",
    "json": "a JSON object",
}
FORMATS = (".jsonl", ".jsonl.gz", ".parquet")


def samples_frame(rows: Iterable[dict], where: str = "the samples") -> pd.DataFrame:
    """Checked rows as a frame with every field of FIELDS first; missing values are null, never 0 or "".

    Raises KitError that names `where`, the row (from 1) and the field. No row at all is an error too.
    """
    checked = [_checked(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]
    return _frame(checked, where)


def read_samples(path: str | os.PathLike) -> pd.DataFrame:
    """Sample rows of a .jsonl, .jsonl.gz or .parquet file (see FIELDS).

    Raises KitError that names the file, the row (a line of JSON lines, from 1) and the field.
    """
    path = Path(path)
    kind = _format(path)
    if not path.is_file():
        raise KitError(f"There is no file {path}: give a {', '.join(FORMATS)} file of sample rows.")
    rows = _parquet_rows(path) if kind == ".parquet" else _jsonl_rows(path, kind)
    return _frame([_checked(row, f"{path}, row {number}") for number, row in rows], str(path))


def write_samples(samples: pd.DataFrame | Iterable[dict], path: str | os.PathLike) -> Path:
    """Write checked sample rows as .jsonl, .jsonl.gz or .parquet, replacing the file in one step.

    Raises KitError on a bad row (as `samples_frame`) or a place that cannot be written; the old file then stays.
    """
    path = Path(path)
    kind = _format(path)
    rows = samples.to_dict("records") if isinstance(samples, pd.DataFrame) else samples
    frame = samples_frame(rows, f"samples for {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise KitError(f"{path} cannot be written ({error}): choose a folder you may write.") from error
    os.close(handle)
    try:
        _write(frame, Path(temporary), kind)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise KitError(f"{path} cannot be written ({error}): free some space or choose another folder.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def summaries(samples: pd.DataFrame) -> pd.Series:
    """The text that is judged in each row: `response_truncated`, or `response` where that is null."""
    return samples["response_truncated"].fillna(samples["response"])


def facts_of(value) -> dict | None:
    """The facts of one row as a dictionary, or None."""
    return None if _is_null(value) else json.loads(value)


def _format(path: Path) -> str:
    for ending in (".jsonl.gz", ".jsonl", ".parquet"):
        if path.name.endswith(ending):
            return ending
    raise KitError(f"{path} is not a file of samples: its name must end in one of {', '.join(FORMATS)}.")


def _jsonl_rows(path: Path, kind: str) -> Iterator[tuple[int, dict]]:
    """(line number, row) of every line that is not blank."""
    number = 0
    try:
        with gzip.open(path, "rb") if kind == ".jsonl.gz" else open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError covers bad JSON and bad UTF-8
        raise KitError(f"{path}, row {number} is not a line of JSON in UTF-8: {error}.") from error
    except (OSError, EOFError) as error:
        raise KitError(f"{path} cannot be read after row {number} ({error}): is it whole?") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise KitError(f"{path} cannot be read as Parquet ({error}): write it again.") from error
    return enumerate(table.to_pylist(), start=1)


def _checked(row, where: str) -> dict:
    """One row with every field present and of its kind; raises KitError with the field and what it should be."""
    if not isinstance(row, dict):
        raise KitError(f"{where} is not a JSON object with the fields {', '.join(FIELDS)}.")
    checked = {}
    for field, (kind, required) in FIELDS.items():
        value = row.get(field)
        if _is_null(value):
            if required:
                raise KitError(f"{where} has no '{field}': every row needs {_required()}.")
            checked[field] = None
        else:
            checked[field] = _converted(value, kind, field, where)
    if checked["query_id"] is None:
        checked["query_id"] = "q-" + hashlib.sha1(checked["query"].encode()).hexdigest()[:12]
    return checked | {name: value for name, value in row.items() if name not in FIELDS}


def _converted(value, kind: str, field: str, where: str):
    """A value of the wanted kind, or KitError."""
    if field == "query_id" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    # NumPy's scalars come from frames; bool is an int in Python and must not pass for one
    value = value.item() if hasattr(value, "item") else value
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with nulls that pandas kept as floats
    fits = {
        "text": isinstance(value, str),
        "bool": isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value),
        "integer": isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63,
        "json": isinstance(value, (dict, str)),
    }[kind]
    if kind == "json" and fits:
        value, fits = _json_object(value)
    if not fits:
        raise KitError(f"{where}: '{field}' must be {_EXPECTED[kind]}, not {_shown(value)}.")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise KitError(
                f"{where}: '{field}' holds half a character (a lone surrogate), which no file can "
                "keep: write it again as UTF-8."
            ) from error
    return value


def _json_object(value) -> tuple[str, bool]:
    """Facts in one spelling, and whether they are a JSON object."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        return json.dumps(parsed, ensure_ascii=False), isinstance(parsed, dict)
    except (TypeError, ValueError, RecursionError):
        return value, False


def _is_null(value) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _shown(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _required() -> str:
    return ", ".join(field for field, (_, required) in FIELDS.items() if required)


def _frame(rows: list[dict], where: str) -> pd.DataFrame:
    if not rows:
        raise KitError(f"{where}: no rows; samples need at least one.")
    frame = pd.DataFrame(rows)
    return frame.astype({field: _DTYPES[kind] for field, (kind, _) in FIELDS.items()})


def _write(frame: pd.DataFrame, path: Path, kind: str) -> None:
    if kind == ".parquet":
        frame.to_parquet(path, index=False, compression="zstd")
        return
    with open(path, "wb") as raw, _compressed(raw) if kind == ".jsonl.gz" else nullcontext(raw) as file:
        for row in frame.to_dict("records"):
            clean = {name: None if _is_null(value) else value for name, value in row.items()}
            clean["facts"] = facts_of(clean["facts"])
            file.write((json.dumps(clean, ensure_ascii=False, default=_plain) + "\n").encode())


def _compressed(raw):
    """A gzip stream without name and date, so that the same rows give the same file."""
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)


def _plain(value):
    """NumPy's arrays and scalars in further columns, as JSON knows them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
