"""The rows of a JSON list or of JSON lines, each with its number, and with what is wrong where one is damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_lib.errors import KitError


def file_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(row number from 1, row) for each row; the number of a JSON line is its line's.

    In the place of a row that is no JSON comes a KitError, whose sentence begins after "<file>, row <n>".
    Raises KitError if the file cannot be read at all.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise KitError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    # Undecodable bytes become lone surrogates, which the check of their field finds and names.
    text = raw.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")
    return _list_rows(text) if text.lstrip()[:1] == "[" else _line_rows(text)


def _line_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, _no_json(error)


def _list_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Element by element, so that a file cut off in the middle names the row where it breaks."""
    decoder, at, number = json.JSONDecoder(), _skip(text, text.index("[") + 1), 0
    if text[at : at + 1] == "]":
        return
    while True:
        number += 1
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield number, _no_json(error)
            return
        yield number, row
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            break
        at = _skip(text, at + 1)
    if text[at:].rstrip() != "]":
        yield number + 1, KitError("is not JSON (a comma or the end of the list is missing); repair or re-export it.")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _no_json(error: Exception) -> KitError:
    why = getattr(error, "msg", None) or type(error).__name__
    return KitError(f"is not JSON ({why}): the file is cut off, damaged or not UTF-8; repair or re-export it.")
